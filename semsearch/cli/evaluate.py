"""``semsearch evaluate``: labelled queries in, a table of measures out."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semsearch.cli.output import (
    bold,
    count,
    json_option,
    mode_option,
    note,
    print_json,
    progress_bar,
)
from semsearch.cli.page import check_targets, write_report

if TYPE_CHECKING:
    from semsearch.corpus import BeirDataset
    from semsearch.evaluation import Report
    from semsearch.search.facade import Index
    from semsearch.types import Run


@click.command(
    epilog="Examples: semsearch evaluate my-dataset/   |   semsearch evaluate my-dataset/ -i my.idx"
    " --mode dense --dims 384,128 --json"
)
@click.argument("dataset", required=False, type=click.Path(file_okay=False))
@click.option(
    "-i",
    "--index",
    "folder",
    envvar="SEMSEARCH_INDEX",
    type=click.Path(file_okay=False),
    help="Measure this index.  [default: one made from the dataset, kept in the cache]",
)
@click.option("-m", "--model", help="The model of the index made from the dataset.")
@click.option(
    "--queries", type=click.Path(exists=True, dir_okay=False), help="Instead of the dataset's."
)
@click.option(
    "--qrels", type=click.Path(exists=True, dir_okay=False), help="Instead of the dataset's."
)
@click.option("--split", help="Which qrels/SPLIT.tsv.  [default: test, else dev]")
@mode_option
@click.option("--dims", help="Widths to measure, such as 384,128.  [default: several]")
@click.option(
    "--run", "run_file", type=click.Path(dir_okay=False), help="Write the first row's TREC run."
)
@click.option(
    "--ignore-identical-ids", is_flag=True, help="Drop hits whose id is the query's, as BEIR does."
)
@click.option("--fresh", is_flag=True, help="Index the dataset again.")
@click.option(
    "--report", "page", type=click.Path(dir_okay=False), help="Write an HTML page of everything."
)
@click.option(
    "--plots", type=click.Path(file_okay=False), help="Write the plots there, as SVG and PNG."
)
@click.option("--explain-metrics", is_flag=True, help="Print the rule of every number, and stop.")
@json_option
def evaluate(dataset: str | None, folder: str | None, as_json: bool, **options: Any) -> None:
    """Measure DATASET: a folder with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv.

    First the pipeline that `query` runs, then every mode at every width; all from one encoding of
    the corpus. With --mode or --dims exactly those.
    """
    if options["explain_metrics"]:
        from semsearch.metrics import explain_rules

        click.echo(explain_rules())
        return
    if dataset is None:
        raise click.UsageError("Missing argument 'DATASET'.")
    from semsearch.corpus import BeirDataset
    from semsearch.evaluation.measure import Measuring
    from semsearch.evaluation.measure import evaluate as measure
    from semsearch.evaluation.pipelines import Pipeline

    check_targets(options["page"], options["plots"])
    labelled = BeirDataset.open(dataset, options["split"], options["queries"], options["qrels"])
    if labelled.missing_queries:
        missing = count(len(labelled.missing_queries), "judged query is", "judged queries are")
        note(f"{missing} not in the queries file: left out")
    modes = [options["mode"]] if options["mode"] else None
    dims = _dims(options["dims"])
    with _open(labelled, folder, options["model"], options["fresh"]) as index:
        first: list[Run] = []
        pipelines: list[Pipeline] = []
        with progress_bar(None, "measuring", "pipelines") as advance:

            def keep(pipeline: Pipeline, run: Run) -> None:
                advance(1)
                pipelines.append(pipeline)
                if not first:
                    first.append(run)

            how = Measuring(ignore_identical_ids=options["ignore_identical_ids"], on_run=keep)
            report = measure(index, labelled, modes=modes, dims=dims, measuring=how)
        if options["page"] or options["plots"]:
            write_report(index, report, pipelines, first[0], options["page"], options["plots"])
    if options["run_file"]:
        from semsearch.corpus import write_run

        write_run(options["run_file"], first[0])
    if as_json:
        print_json(report.to_json())
    else:
        print_report(report)


def print_report(report: Report) -> None:
    """The table with the best of each column in bold, then its notes."""
    from semsearch.evaluation.report import note_lines, table_lines

    for line in [*table_lines(report, mark=bold), *note_lines(report)]:
        click.echo(line)


def _dims(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a list such as 384,128", param_hint="--dims"
        ) from None


def _open(dataset: BeirDataset, folder: str | None, model: str | None, fresh: bool) -> Index:
    """The index to measure: the one named, or one of the dataset in the user's cache."""
    from semsearch.encoders.resolve import DEFAULT_MODEL
    from semsearch.search.facade import Index

    if folder is not None:
        index = Index(folder, model)
        index.require()
        return index
    name = model or DEFAULT_MODEL
    path = _cache_path(dataset, name)
    if fresh and path.exists():
        shutil.rmtree(path)
    return _indexed(Index(path, name), dataset)


def _cache_path(dataset: BeirDataset, model: str) -> Path:
    from semsearch import fs
    from semsearch.encoders import fingerprint_of

    name = f"{dataset.corpus_sha256()[:16]}-{fingerprint_of(model, local_only=False)[:16]}"
    return fs.cache_folder() / "datasets" / name


def _indexed(index: Index, dataset: BeirDataset) -> Index:
    """Index the dataset's corpus unless an earlier run did so to its end."""
    from semsearch.collection.layout import Layout
    from semsearch.collection.writer import open_for_writing
    from semsearch.corpus import read_corpus
    from semsearch.indexing import Source, run_indexing

    corpus = dataset.require_corpus()
    if index.exists and index.reader.sources():
        return index
    if sys.stderr.isatty():
        note(f"indexing {corpus} into {index.folder}")
    with (
        open_for_writing(Layout(index.folder)) as writer,
        progress_bar(None, "indexing", "docs") as advance,
    ):
        source = Source(str(corpus.resolve()), read_corpus(corpus))
        run_indexing(writer, index.encoder_for(writer.snapshot), [source], progress=advance)
    index.close()  # what it had open is older than that
    return index
