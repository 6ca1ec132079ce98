"""``semsearch tune``: learn from labels how an index is to rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from semsearch.cli.labelled import open_dataset, open_index
from semsearch.cli.output import bold, json_option, note, print_json, progress_bar

if TYPE_CHECKING:
    from semsearch.corpus import BeirDataset
    from semsearch.evaluation.tuning import Tuned
    from semsearch.search.facade import Index

_file = click.Path(exists=True, dir_okay=False)


@click.command(
    epilog="""\b
Examples: semsearch tune my-dataset/ --split dev -i my.idx
          semsearch tune my-dataset/ --measure mrr@10 --dry-run
          semsearch tune --reset -i my.idx
"""
)
@click.argument("dataset", required=False, type=click.Path())
@click.option(
    "-i",
    "--index",
    "folder",
    envvar="SEMSEARCH_INDEX",
    type=click.Path(file_okay=False),
    help="Tune this index.  [default: one made from the dataset, kept in the cache]",
)
@click.option("-m", "--model", help="The model of the index made from the dataset.")
@click.option("--split", help="Which qrels/SPLIT.tsv to learn from.  [default: dev, else train]")
@click.option("--queries", type=_file, help="Instead of the dataset's.")
@click.option("--qrels", type=_file, help="Instead of the dataset's.")
@click.option(
    "--measure", default="ndcg@10", show_default=True, metavar="NAME@K", help="What to improve."
)
@click.option(
    "--rerank",
    "rerankers",
    multiple=True,
    metavar="MODEL",
    help="Try this cross-encoder, too: a folder or a name; repeatable.",
)
@click.option(
    "--folds",
    type=click.IntRange(2, 20),
    default=5,
    show_default=True,
    help="Parts that are held out in turn.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="For the folds.")
@click.option(
    "--ignore-identical-ids", is_flag=True, help="Drop hits whose id is the query's, as BEIR does."
)
@click.option("--fresh", is_flag=True, help="Index the dataset again.")
@click.option("--dry-run", is_flag=True, help="Store nothing.")
@click.option("--force", is_flag=True, help="Store what was chosen even if it is no sure gain.")
@click.option("--reset", is_flag=True, help="Let the index rank by the default again, and stop.")
@json_option
def tune(dataset: str | None, as_json: bool, **options: Any) -> None:
    """Learn from the labels of DATASET how the index is to rank, and store it in the index.

    Fusion, weights, depths and reranker are chosen by cross-validation: what some of the queries
    choose is measured on the others. Only a gain over the default whose 95 % interval lies above 0
    is stored. Measure it afterwards on a split that was not tuned on: `semsearch evaluate`.
    """
    if options["reset"]:
        _reset(dataset, options)
        return
    if dataset is None:
        raise click.UsageError("Missing argument 'DATASET'.")
    if options["dry_run"] and options["force"]:
        raise click.UsageError("--dry-run stores nothing and --force stores anything: choose one")
    labelled = _open_split(dataset, options)
    with open_index(labelled, options["folder"], options["model"], options["fresh"]) as index:
        found = _tune(index, labelled, options)
        keep = found.chosen_is_new and (found.supported or options["force"])
        if keep and not options["dry_run"] and as_json:
            found = _store(index, found)
        if as_json:
            print_json(found.to_json())
            return
        _put(index, found, keep, options["dry_run"])


def _open_split(dataset: str, options: dict[str, Any]) -> BeirDataset:
    from semsearch.evaluation.tuning.run import tuning_split

    if options["split"] is None and options["qrels"] is None:
        options["split"] = tuning_split(dataset)
    labelled = open_dataset(dataset, options)
    if labelled.split == "test":
        note("tuning on the test split: numbers measured on it are no longer held out")
    return labelled


def _tune(index: Index, labelled: BeirDataset, options: dict[str, Any]) -> Tuned:
    from semsearch.evaluation.tuning import Tuning, tune

    with progress_bar(len(labelled.queries), "scoring", "queries") as advance:
        how = Tuning(
            options["rerankers"],
            options["folds"],
            options["seed"],
            options["ignore_identical_ids"],
            advance,
        )
        return tune(index, labelled, measure=options["measure"], store=False, tuning=how)


def _store(index: Index, found: Tuned) -> Tuned:
    from semsearch.evaluation.tuning.run import store_ranking

    return store_ranking(index, found)


def _put(index: Index, found: Tuned, keep: bool, dry_run: bool) -> None:
    """Print what was found before it is stored: the lock may be held by somebody else."""
    from semsearch.evaluation.tuning.outcome import describe, tuned_lines

    for line in tuned_lines(found, bold):
        click.echo(line)
    if keep and not dry_run:
        _store(index, found)
        click.echo(f"stored in {index.folder}: {describe(found.chosen)}")
        return
    click.echo("nothing stored" + (" (--dry-run)" if keep else ""))
    before = index.searcher.source.ranking
    if before is not None:
        click.echo(f"the index goes on as it was tuned before: {describe(before)}")


def _reset(dataset: str | None, options: dict[str, Any]) -> None:
    from semsearch.evaluation.tuning.run import set_ranking
    from semsearch.search.facade import Index

    if options["folder"] is not None:
        index = Index(options["folder"], options["model"])
    elif dataset is not None:
        labelled = open_dataset(dataset, options)
        index = open_index(labelled, None, options["model"], fresh=False)
    else:
        raise click.UsageError("--reset needs an index: -i FOLDER, or the DATASET it was made from")
    with index:
        set_ranking(index, None)
    click.echo(f"{index.folder}: ranks by the default again")
