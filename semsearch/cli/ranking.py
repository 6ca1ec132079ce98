"""Options of the ranking that commands share: the reranker, the settings that ``tune`` learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from semsearch.ranking.settings import Ranking
    from semsearch.search.facade import Index

rerank_option = click.option(
    "--rerank",
    metavar="none|self|MODEL",
    help="Order the best candidates again; MODEL is a cross-encoder.  [default: self in hybrid]",
)
ranking_option = click.option(
    "--ranking",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the ranking other than the index's, as in fusion=rrf; repeatable.",
)


def ranking_of(index: Index, settings: Sequence[str]) -> Ranking | None:
    """The index's ranking with these settings (``KEY=VALUE``) replaced; None for no settings."""
    if not settings:
        return None
    values = {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"--ranking {text!r} is not KEY=VALUE, as in fusion=rrf")
        values[name.strip()] = value.strip()
    return index.searcher.ranking.changed(values)
