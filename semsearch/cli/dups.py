"""``semsearch dups``: documents that are nearly the same."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from semsearch.cli.output import bold, count, index_option, json_option, note, one_line, print_json

if TYPE_CHECKING:
    from semsearch.search.duplicates import Duplicate, Group

_SHOWN = 72


@click.command(
    epilog="""\b
Examples: semsearch dups
          semsearch dups --threshold 0.98 -f lang=en
          semsearch dups --words 0 --threshold 0.9     (paraphrases, too)
          semsearch dups --json | jq -r '.documents[1:][].id'
"""
)
@index_option
@click.option(
    "--threshold", type=float, help="The lowest cosine of two documents.  [default: 0.95]"
)
@click.option(
    "--words", type=float, help="The lowest share of words in common; 0 for any.  [default: 0.5]"
)
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="EXPR",
    help="Only among documents with FIELD OP VALUE; all must hold.",
)
@click.option("--limit", type=click.IntRange(1, 10**9), help="Stop after so many groups.")
@json_option
def dups(folder: str, as_json: bool, limit: int | None, **options: Any) -> None:
    """List groups of documents that are nearly the same, as they are found.

    First copies: documents with the very same title and text. Then those whose vectors have a
    cosine of at least --threshold with that of the group's first document, which was indexed
    first, and which share at least --words of all words that either has: vectors alone also find
    what is only on the same subject. No model is loaded.

    --json prints one object a line for each group: "kind" (copies or near) and "documents", each
    with "id", "title", and its "cosine" and shared "words" with the first.
    """  # fmt: skip
    from semsearch.search.duplicates import THRESHOLD, WORDS
    from semsearch.search.facade import Index

    with Index(folder, None) as index:
        index.require()
        found = index.duplicates(
            threshold=THRESHOLD if options["threshold"] is None else options["threshold"],
            words=WORDS if options["words"] is None else options["words"],
            filters=options["filters"],
        )
        groups = documents = 0
        for group in islice(found, limit):
            groups += 1
            documents += len(group.documents) - 1
            if as_json:
                print_json(_as_dict(group))
            else:
                if groups == 1:
                    click.echo("cosine  words  document")
                _print_group(group)
    if not as_json:
        stopped = f"; stopped at --limit {limit}" if groups == limit else ""
        note(
            f"{count(groups, 'group')}, {count(documents, 'document')} beside the first of"
            f" each{stopped}"
        )


def _print_group(group: Group) -> None:
    for number, found in enumerate(group.documents):
        likeness = f"{found.cosine:.4f}  {found.words:5.2f}" if number else f"{group.kind:<13}"
        name = one_line(found.document.id)
        click.echo(f"{likeness}  {name if number else bold(name)}  {_beginning(found)}")


def _beginning(found: Duplicate) -> str:
    text = one_line(found.document.content[: 4 * _SHOWN])
    return text if len(text) <= _SHOWN else text[: _SHOWN - 4].rstrip() + " ..."


def _as_dict(group: Group) -> dict[str, Any]:
    return {
        "kind": group.kind,
        "documents": [
            {
                "id": found.document.id,
                "title": found.document.title,
                "cosine": found.cosine,
                "words": found.words,
            }
            for found in group.documents
        ],
    }
