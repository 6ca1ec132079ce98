"""``semsearch get``, ``delete`` and ``export``: the documents of an index."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semsearch.cli.output import count, index_option, note, safe

if TYPE_CHECKING:
    from semsearch.types import Document, Qrels


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


@click.command(
    epilog="Examples: semsearch export > corpus.jsonl   |   semsearch export --beir my-set"
    " --queries queries.jsonl --qrels test.tsv"
)
@index_option
@click.option(
    "--beir",
    "target",
    type=click.Path(path_type=Path),
    help="Write a new folder in BEIR's layout instead.",
)
@click.option(
    "--queries",
    type=click.Path(exists=True, dir_okay=False),
    help="With --beir: these queries, too (JSON lines or a table).",
)
@click.option(
    "--qrels",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="With --queries: these judgements, too (BEIR's or TREC's); may be given again.",
)
@click.option("--split", help="What the judgements are called.  [default: their file's name]")
def export(folder: str, target: Path | None, **labels: Any) -> None:
    """Print every document as one line of JSON, as `semsearch index` reads it.

    With --beir a folder is written that BEIR's reader, MTEB and `semsearch evaluate` take.
    """
    from semsearch.search.facade import Index

    if target is None and any(labels.values()):
        raise click.UsageError("--queries, --qrels and --split go with --beir.")
    if (labels["qrels"] and not labels["queries"]) or (labels["split"] and not labels["qrels"]):
        raise click.UsageError("--split goes with --qrels, and --qrels with --queries.")
    with Index(folder, None) as index:
        if target is not None:
            index.require()
            write_set(target, index.documents(), **labels)
            return
        for document in index.documents():
            click.echo(_as_json(document))


def write_set(
    target: Path,
    documents: Iterable[Document],
    queries: str | Path | None,
    qrels: Sequence[str | Path],
    split: str | None = None,
) -> None:
    """Write a BEIR folder from documents and files of labels, and say what is in it."""
    from semsearch.corpus import read_queries
    from semsearch.corpus.beir_writer import write_beir

    asked = [] if queries is None else read_queries(queries)
    splits = _splits(qrels, split, {query.id for query in asked})
    done = write_beir(target, documents, asked, splits)
    said = [count(done.documents, "document")]
    if queries is not None:
        said += [count(done.queries, "query", "queries")]
    if splits:
        said += [f"{count(done.judgements, 'judgement')} in split {', '.join(splits)}"]
    click.echo(f"{', '.join(said)} -> {target}")
    if done.missing_documents:
        one, many = "relevant document is", "relevant documents are"
        note(f"{count(done.missing_documents, one, many)} not in the corpus, but judged")


def _splits(
    files: Sequence[str | Path], split: str | None, asked: Container[str]
) -> dict[str, Qrels]:
    from semsearch.corpus import read_qrels
    from semsearch.corpus.beir import split_name

    found: dict[str, Qrels] = {}
    for file in files:
        name = split or split_name(Path(file))
        if name in found:
            raise click.UsageError(f"two files of judgements are called {name!r}.")
        judged = read_qrels(file)
        found[name] = {query: grades for query, grades in judged.items() if query in asked}
        if lost := len(judged) - len(found[name]):
            missing = count(lost, "judged query is", "judged queries are")
            note(f"{file}: {missing} not in the queries file: left out")
    return found


def _as_json(document: Document, indent: int | None = None) -> str:
    from semsearch.corpus.beir_writer import document_json

    return safe(document_json(document, indent))
