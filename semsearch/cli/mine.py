"""``semsearch mine``: hard negatives to fine-tune with, from an index and its labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semsearch.cli.labelled import STDOUT, open_dataset, open_index
from semsearch.cli.output import json_option, mode_option, note, print_json, progress_bar, safe
from semsearch.cli.ranking import rerank_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from semsearch.corpus import BeirDataset
    from semsearch.training.mining import Mining

_file = click.Path(exists=True, dir_okay=False)


@click.command(
    epilog="""\b
Examples: semsearch mine my-dataset/ -o train.jsonl
          semsearch mine my-dataset/ -o train.jsonl --relative-margin 0.95 --ranks 1-100
          semsearch mine my-dataset/ -o train.jsonl.gz --per-query 5 --layout tuples
          semsearch mine my-dataset/ -o - --cross-encoder ms-marco-MiniLM-L6-v2 | head
"""
)
@click.argument("dataset", type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(),
    help="Write the rows there, as JSON lines; - is stdout.",
)
@click.option(
    "-i",
    "--index",
    "folder",
    envvar="SEMSEARCH_INDEX",
    type=click.Path(file_okay=False),
    help="Mine this index.  [default: one made from the dataset, kept in the cache]",
)
@click.option("-m", "--model", help="The model of the index made from the dataset.")
@click.option("--split", help="Which qrels/SPLIT.tsv.  [default: train, else dev]")
@click.option("--queries", type=_file, help="Instead of the dataset's.")
@click.option("--qrels", type=_file, help="Instead of the dataset's.")
@mode_option
@rerank_option
@click.option(
    "--ranks",
    default="10-100",
    show_default=True,
    metavar="FIRST-LAST",
    help="Where in the ranking to look, counted without the positives.",
)
@click.option(
    "--per-query",
    type=click.IntRange(1, 100_000),
    default=1,
    show_default=True,
    help="Negatives for each positive of a query.",
)
@click.option(
    "--margin", type=float, metavar="X", help="Drop what is not X below the positive's cosine."
)
@click.option(
    "--relative-margin",
    type=float,
    metavar="R",
    help="Drop what is above R times the positive's cosine, as 0.95.",
)
@click.option("--max-score", type=float, metavar="X", help="Drop what has a cosine above X.")
@click.option(
    "--cross-encoder",
    metavar="MODEL",
    help="Drop what this cross-encoder scores above the positive: a folder or a name.",
)
@click.option(
    "--cross-encoder-margin",
    type=float,
    default=0.0,
    show_default=True,
    metavar="X",
    help="Drop what is not X below the positive in its raw scores.",
)
@click.option("--judged", is_flag=True, help="Take documents judged not relevant first.")
@click.option(
    "--sample",
    type=click.Choice(["first", "random"]),
    default="first",
    show_default=True,
    help="Which of what is left.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="For --sample random."
)
@click.option(
    "--layout",
    type=click.Choice(["triplets", "tuples"]),
    default="triplets",
    show_default=True,
    help="A row for each negative, or one for each positive with all of them.",
)
@click.option("--fresh", is_flag=True, help="Index the dataset again.")
@json_option
def mine(dataset: str, output: str, as_json: bool, **options: Any) -> None:
    """Mine hard negatives for the labelled queries of DATASET, to fine-tune a model with.

    Each row has "anchor" (the query), "positive" and "negative" (with --layout tuples "negative_1",
    "negative_2" and so on), the ids of all three, their cosines and the negative's rank. Candidates
    are ranked as `semsearch query` ranks; cosines are exact, by the index's own vectors.

    Nothing that any split calls relevant to a query of the same text becomes a negative, no copy of
    it either, and not the query itself. What nobody judged may still be right: --ranks leaves out
    the first few, the margins what scores about as high as a positive, --cross-encoder what a
    better model takes for right.
    """
    from semsearch.training.mining.run import Miner

    if output == STDOUT and as_json:
        raise click.UsageError("--json and -o - both print on stdout: name a file")
    mining = _settings(options)
    labelled = _open_split(dataset, options)
    if output != STDOUT:
        _check_output(Path(output), labelled, options)
    with (
        open_index(labelled, options["folder"], options["model"], options["fresh"]) as index,
        progress_bar(len(labelled.queries), "mining", "queries") as advance,
    ):
        miner = Miner(index, labelled, queries=options["queries"], mining=mining(advance))
        _write(output, miner.lines())
    if as_json:
        print_json(miner.report.to_json())
        return
    for line in miner.report.lines():
        click.echo(line, err=True)


def _settings(options: dict[str, Any]) -> Callable[[Callable[[int], None]], Mining]:
    """The settings, checked before anything is read; what shows the progress comes later."""
    from dataclasses import replace

    from semsearch.training.mining.settings import Mining, parse_ranks

    mining = Mining(
        mode=options["mode"] or "hybrid",
        rerank=options["rerank"],
        ranks=parse_ranks(options["ranks"]),
        per_query=options["per_query"],
        margin=options["margin"],
        relative_margin=options["relative_margin"],
        max_score=options["max_score"],
        cross_encoder=options["cross_encoder"],
        cross_encoder_margin=options["cross_encoder_margin"],
        sample=options["sample"],
        seed=options["seed"],
        layout=options["layout"],
        judged=options["judged"],
    )
    mining.check()
    return lambda advance: replace(mining, on_progress=advance)


def _open_split(dataset: str, options: dict[str, Any]) -> BeirDataset:
    from semsearch.training.mining.run import mining_split

    if options["split"] is None and options["qrels"] is None:
        options["split"] = mining_split(dataset)
    labelled = open_dataset(dataset, options)
    if labelled.split == "test":
        note("mining the test split: numbers measured on it are no longer held out after training")
    return labelled


def _check_output(output: Path, dataset: BeirDataset, options: dict[str, Any]) -> None:
    """Refuse a place that cannot be written, or that what is mined was read from."""
    from semsearch.corpus.beir import CORPUS_NAMES, QUERIES_NAMES, qrels_files
    from semsearch.corpus.columns import check_target

    check_target(output)
    read = [dataset.folder / name for name in (*CORPUS_NAMES, *QUERIES_NAMES)]
    read += qrels_files(dataset.folder / "qrels").values()
    read += [Path(options[name]) for name in ("queries", "qrels") if options[name]]
    if output.resolve() in {path.resolve() for path in read}:
        raise click.UsageError(f"{output} is a file of the dataset: write the rows elsewhere")


def _write(output: str, lines: Iterable[str]) -> None:
    if output == STDOUT:
        for line in lines:
            click.echo(safe(line), nl=False)
        return
    from semsearch.corpus.columns import write_lines

    write_lines(output, lines)
