"""``semsearch get``, ``delete`` and ``export``: the documents of an index."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from semsearch.cli.output import count, index_option, note, safe

if TYPE_CHECKING:
    from semsearch.types import Document


@click.command(epilog="Example: semsearch get json.loads -i stdlib.idx")
@click.argument("document_id", metavar="ID")
@index_option
def get(document_id: str, folder: str) -> None:
    """Print the document ID as JSON."""
    from semsearch.search.facade import Index

    with Index(folder, None) as index:
        click.echo(_as_json(index.get(document_id), indent=2))


@click.command(epilog="Example: semsearch delete doc-1 doc-2")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@index_option
def delete(ids: tuple[str, ...], folder: str) -> None:
    """Delete documents by id. Ids that are not there are named, and are no error."""
    from semsearch.search.facade import Index

    with Index(folder, None) as index:
        deleted = index.delete(list(ids))
    click.echo(f"{count(len(deleted), 'document')} deleted")
    unknown = sorted(set(ids) - set(deleted))
    if unknown:
        note(f"not in the index: {', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}")


@click.command(epilog="Example: semsearch export > corpus.jsonl")
@index_option
def export(folder: str) -> None:
    """Print every document as one line of JSON, as `semsearch index` reads it."""
    from semsearch.search.facade import Index

    with Index(folder, None) as index:
        for document in index.documents():
            click.echo(_as_json(document))


def _as_json(document: Document, indent: int | None = None) -> str:
    value: dict[str, Any] = {"_id": document.id, "title": document.title, "text": document.text}
    if document.metadata:
        value["metadata"] = dict(document.metadata)
    return safe(json.dumps(value, ensure_ascii=False, indent=indent))
