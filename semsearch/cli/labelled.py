"""What commands that measure share: the labelled set, the index made from it, files per query."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from semsearch.cli.output import count, note, progress_bar

if TYPE_CHECKING:
    from semsearch.corpus import BeirDataset
    from semsearch.evaluation.queries import Record
    from semsearch.search.facade import Index

Command = TypeVar("Command", bound=Callable[..., Any])

STDOUT = "-"

_file = click.Path(exists=True, dir_okay=False)
_OPTIONS = (
    click.option("--queries", type=_file, help="Instead of the dataset's."),
    click.option("--qrels", type=_file, help="Instead of the dataset's."),
    click.option("--split", help="Which qrels/SPLIT.tsv.  [default: test, else dev]"),
    click.option(
        "--group-by", metavar="FIELD", help="Also by a field of the queries file, group by group."
    ),
    click.option(
        "--ignore-identical-ids",
        is_flag=True,
        help="Drop hits whose id is the query's, as BEIR does.",
    ),
    click.option("--fresh", is_flag=True, help="Index the dataset again."),
)


def labelled_options(command: Command) -> Command:
    """The options that say what is measured on."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def open_dataset(dataset: str, options: dict[str, Any]) -> BeirDataset:
    """The labelled set that the options of ``labelled_options`` name."""
    from semsearch.evaluation.labelled import open_labelled

    labelled = open_labelled(dataset, options["split"], options["queries"], options["qrels"])
    if labelled.missing_queries:
        missing = count(len(labelled.missing_queries), "judged query is", "judged queries are")
        note(f"{missing} not in the queries file: left out")
    return labelled


def open_index(dataset: BeirDataset, folder: str | None, model: str | None, fresh: bool) -> Index:
    """The index to measure: the one named, or one of the dataset in the user's cache."""
    from semsearch.encoders.resolve import DEFAULT_MODEL
    from semsearch.evaluation.dataset_index import complete, find_dataset_index, is_complete
    from semsearch.search.facade import Index

    if folder is not None:
        index = Index(folder, model)
        index.require()
        return index
    corpus = dataset.require_corpus()
    index = find_dataset_index(dataset, model or DEFAULT_MODEL, fresh=fresh)
    if not is_complete(index):
        if sys.stderr.isatty():
            note(f"indexing {corpus} into {index.folder}")
        with progress_bar(None, "indexing", "docs") as advance:
            complete(index, dataset, advance)
    return index


def refuse_two_outputs(per_query: str | None, as_json: bool) -> None:
    """Raise UsageError when both would go to stdout."""
    if per_query == STDOUT and as_json:
        raise click.UsageError("--json and --per-query - both print on stdout: name a file")


def put_records(target: str, records: Sequence[Record]) -> None:
    """Write records to a file, or print them as a table with tabs for ``-``."""
    from semsearch.evaluation.queries import table_rows, write_records

    if target == STDOUT:
        for row in table_rows(records):
            click.echo(row, nl=False)
    else:
        write_records(target, records)


def fail_gates(line: str | None) -> None:
    """End with exit code 3 and the line on stderr if there is one."""
    if line is not None:
        click.echo(line, err=True)
        click.get_current_context().exit(3)
