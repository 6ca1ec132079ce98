"""``semsearch demo``: the whole product in a minute, on documentation that every machine has."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from semsearch.cli.documents import write_set
from semsearch.cli.output import count, json_option, print_json, progress_bar
from semsearch.cli.query import print_hits
from semsearch.cli.results import print_report

if TYPE_CHECKING:
    from semsearch.evaluation import Report
    from semsearch.indexing import Summary
    from semsearch.search.facade import Index

QUESTIONS = (
    "how do I parse a date",
    "count how often each word occurs",
    "compare two texts line by line",
)


@click.command(epilog="Example: semsearch demo && semsearch query 'copy a folder' -i stdlib.idx")
@click.option(
    "-i",
    "--index",
    "folder",
    default="stdlib.idx",
    show_default=True,
    type=click.Path(file_okay=False),
    help="Where to put the index; it is kept.",
)
@click.option("-m", "--model", help="A sentence-transformers folder or name.")
@click.option(
    "--beir",
    "target",
    type=click.Path(path_type=Path),
    help="Only write documentation, questions and judgements to a new folder in BEIR's layout.",
)
@json_option
def demo(folder: str, model: str | None, target: Path | None, as_json: bool) -> None:
    """Index Python's own documentation, ask it questions, and measure the answers.

    The questions and judgements come with semsearch; the measures are those of their test split.
    """
    if target is not None:
        _write(target)
        return
    from semsearch.search.facade import Index

    with Index(folder, model) as index:
        summary, seconds = _index(index)
        if as_json:
            print_json(_measure(index).to_json())
            return
        version = platform.python_version()
        click.echo(
            f"Python {version}: {count(summary.read, 'documented name')},"
            f" {summary.encoded:,} encoded in {seconds:.1f} s -> {folder}\n"
        )
        for question in QUESTIONS:
            click.echo(f"$ semsearch query '{question}' -i {folder} -k 3")
            print_hits(index.search(question, k=3))
            click.echo()
        print_report(_measure(index))
        click.echo()
        click.echo(f"Ask it yourself:  semsearch query 'your question' -i {folder}")
        click.echo("Your own corpus:  semsearch index corpus.jsonl && semsearch query '...'")


def _write(target: Path) -> None:
    from semsearch.corpus.stdlib import read_stdlib
    from semsearch.corpus.stdlib.labels import labelled_set

    labels = labelled_set()
    judged = sorted((labels / "qrels").glob("*.tsv"))
    write_set(target, read_stdlib(), labels / "queries.jsonl", judged)


def _index(index: Index) -> tuple[Summary, float]:
    from semsearch.collection.layout import Layout
    from semsearch.collection.writer import open_for_writing
    from semsearch.corpus.stdlib import read_stdlib
    from semsearch.indexing import Source, run_indexing

    documents = list(read_stdlib())
    began = time.perf_counter()
    with (
        open_for_writing(Layout(Path(index.folder))) as writer,
        progress_bar(len(documents), "indexing", "docs") as advance,
    ):
        encoder = index.encoder_for(writer.snapshot)
        source = Source("stdlib", documents)
        summary = run_indexing(writer, encoder, [source], prune=True, progress=advance)
    return summary, time.perf_counter() - began


def _measure(index: Index) -> Report:
    from semsearch.corpus.stdlib.labels import labelled_set
    from semsearch.evaluation import Measuring, evaluate

    with progress_bar(None, "measuring", "pipelines") as advance:
        how = Measuring(on_run=lambda *_: advance(1))
        return evaluate(index, labelled_set(), split="test", measuring=how)
