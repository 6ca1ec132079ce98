"""Columns of text for people: headings, words to the left, numbers to the right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias
from unicodedata import category, east_asian_width

Interval: TypeAlias = tuple[float, float]
"""Low and high bound."""

JOINERS = "\u200c\u200d"
"""Invisible, but Sinhala, Hindi and Persian are written with them."""

NOTHING = "-"
_GAP = "  "


class Cell(NamedTuple):
    """A text and whether it is marked, as the best of its column is."""

    text: str
    marked: bool = False


class Column(NamedTuple):
    """A heading above cells; ``words`` are aligned to the left, numbers to the right."""

    heading: str
    cells: Sequence[Cell]
    words: bool = False


def words(heading: str, texts: Iterable[str]) -> Column:
    """A column of words."""
    return Column(heading, [Cell(text) for text in texts], words=True)


def numbers(heading: str, texts: Iterable[str]) -> Column:
    """A column of numbers that are written already."""
    return Column(heading, [Cell(text) for text in texts])


def align(columns: Sequence[Column], mark: Callable[[str], str] | None = None) -> list[str]:
    """Lines of columns of one length, the headings first; trailing spaces are cut.

    ``mark`` is given the text of each marked cell; it must not change the visible width.
    """
    lines = [""] * (1 + len(columns[0].cells))
    for column in columns:
        cells = [Cell(column.heading), *column.cells]
        width = max(width_of(cell.text) for cell in cells)
        for line, cell in enumerate(cells):
            pad = " " * (width - width_of(cell.text))
            text = mark(cell.text) if mark and cell.marked else cell.text
            lines[line] += _GAP * bool(lines[line]) + (text + pad if column.words else pad + text)
    return [line.rstrip() for line in lines]


def number(value: float | None, digits: int = 3) -> str:
    """A value between 0 and 1; ``-`` for None."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign; what rounds to 0 has none."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def bounds(interval: Interval | None, digits: int = 3) -> str:
    """`` [low, high]`` of values, to stand behind their mean; nothing for None."""
    return "" if interval is None else " [{}, {}]".format(*(number(b, digits) for b in interval))


def signed_bounds(interval: Interval | None, digits: int = 3) -> str:
    """`` [low, high]`` of differences; nothing for None."""
    return "" if interval is None else " [{}, {}]".format(*(signed(b, digits) for b in interval))


def probability(p: float) -> str:
    """A p with three digits; never written as 0, which it never is."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def p_is(p: float) -> str:
    """``p 0.012``, ``p < 0.001``."""
    return f"p {probability(p)}".replace("<", "< ")


def count(amount: int, one: str, many: str | None = None) -> str:
    """``1 query``, ``5,183 queries``."""
    return f"{amount:,} {one if amount == 1 else many or one + 's'}"


def one_line(text: str) -> str:
    """Without line breaks and control characters: a text may hold what drives a terminal."""
    return " ".join("".join(c if c.isprintable() or c in JOINERS else " " for c in text).split())


def width_of(text: str) -> int:
    """The columns that a text takes on a terminal: Chinese signs two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if category(c) in ("Mn", "Me", "Cf") else 2 if east_asian_width(c) in "WF" else 1
        for c in text
    )


def cut(text: str, width: int) -> str:
    """At most ``width`` columns; what is cut ends in three dots."""
    if width_of(text) <= width:
        return text
    kept = text[:width]
    while kept and width_of(kept) > width - 4:
        kept = kept[:-1]
    return f"{kept.rstrip()} ..."
