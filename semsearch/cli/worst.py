"""The worst queries of an evaluation: what came first, and where the right document was."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from semsearch.cli.output import bold, count, one_line

if TYPE_CHECKING:
    from semsearch.evaluation.queries import QueryResult
    from semsearch.search.facade import Index

_WIDEST = 100
_NARROWEST = 40


def titles_of(results: Sequence[QueryResult], index: Index | None) -> dict[str, str]:
    """Titles of their documents, or the beginnings of texts; nothing without an index."""
    wanted = {name for result in results for name in (result.top, result.found) if name}
    if index is None:
        return {}
    there = index.reader.live_by_id(sorted(wanted))
    return {
        name: one_line((row.document.title or row.document.text)[: 4 * _WIDEST])
        for name, row in there.items()
    }


def print_worst(
    results: Sequence[QueryResult], titles: Mapping[str, str], who: str, measure: str
) -> None:
    """Each query with its value, its first hit and the relevant document that is ranked best."""
    from semsearch.evaluation.columns import cut

    width = min(max(shutil.get_terminal_size((_WIDEST, 24)).columns, _NARROWEST), _WIDEST)

    def line(name: str, text: str) -> str:
        name, text = one_line(name), one_line(text)
        shown = text if text.startswith(name) else f"{name}  {text}".rstrip()
        return cut(shown, width - 8)

    click.echo(f"\nthe worst queries of {who} by {measure}; + is the relevant document ranked best")
    for result in results:
        value = f"{result.metrics[measure]:.3f}"
        click.echo(f"{value}   {bold(line(result.query_id, result.text))}")
        if result.top is None:
            click.echo("        nothing found")
        elif result.rank != 1:
            grade = "not judged" if result.top_grade is None else f"grade {result.top_grade}"
            first = f"{result.top} ({grade})"
            click.echo(f"   1    {line(first, titles.get(result.top, ''))}")
        if result.found is None or result.rank is None:
            missed = count(result.relevant, "relevant document")
            click.echo(f"   -  + {missed} not found")
        else:
            click.echo(f"{result.rank:>4}  + {line(result.found, titles.get(result.found, ''))}")
