"""Small pieces of HTML. Every text from outside goes through ``esc`` before it is on the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_JOINERS = "\u200c\u200d"  # invisible, but Sinhala, Hindi and Persian are written with them
_SNIPPET = 220


def esc(text: str) -> str:
    """A text as HTML: quotes escaped too, control characters and lone surrogates as blanks.

    Characters that turn the direction of writing go as well: a title must not rearrange the page.
    """
    return escape("".join(c if c.isprintable() or c in _JOINERS else " " for c in text))


def snippet(text: str, length: int = _SNIPPET) -> str:
    """The beginning of a text on one line, cut between words where it can be."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    start = line[:length]
    cut = start.rfind(" ")
    return (start[:cut] if cut > length // 2 else start).rstrip(" ,;:.") + " …"


def table(head: Sequence[str], rows: Iterable[str]) -> str:
    """A table that scrolls sideways where it is too wide; ``head`` and ``rows`` are HTML."""
    return (
        '<div class="wide" role="region" aria-label="table" tabindex="0"><table><thead><tr>'
        f"{''.join(head)}</tr></thead><tbody>\n{chr(10).join(rows)}\n</tbody></table></div>"
    )


def heading(text: str, *, word: bool = False) -> str:
    """A column's heading; ``word`` for a column of words."""
    return f'<th scope="col"{_CLASS if word else ""}>{esc(text)}</th>'


def cell(text: str, *, below: str = "", best: bool = False, word: bool = False) -> str:
    """A cell with a small line below its text."""
    classes = " ".join(name for name, on in (("best", best), ("word", word)) if on)
    attribute = f' class="{classes}"' if classes else ""
    small = f"<small>{esc(below)}</small>" if below else ""
    return f"<td{attribute}>{esc(text)}{small}</td>"


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of terms (plain text), each with what is said about it (HTML)."""
    items = (f"<dt>{esc(term)}</dt><dd>{said}</dd>" for term, said in pairs)
    return f"<dl>\n{chr(10).join(items)}\n</dl>"


def section(title: str, *parts: str) -> str:
    """A part of the page under a heading; nothing when all ``parts`` are empty."""
    body = "\n".join(part for part in parts if part)
    return f"<section><h2>{esc(title)}</h2>\n{body}\n</section>" if body else ""


def paragraph(text: str, name: str = "") -> str:
    """A paragraph of plain text."""
    attribute = f' class="{name}"' if name else ""
    return f"<p{attribute}>{esc(text)}</p>"


_CLASS = ' class="word"'
