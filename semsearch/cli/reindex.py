"""``semsearch reindex``: the same documents by another model, compared, swapped, put back."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semsearch.cli.labelled import fail_gates, open_dataset
from semsearch.cli.output import (
    bold,
    count,
    index_option,
    json_option,
    note,
    print_json,
    progress_bar,
    size,
)

if TYPE_CHECKING:
    from semsearch.collection.writer import Writer
    from semsearch.corpus import BeirDataset
    from semsearch.encoders import Encoder
    from semsearch.evaluation.replacing import Replacement
    from semsearch.indexing import Summary
    from semsearch.search.facade import Index
    from semsearch.store.catalog import EncoderRow

_file = click.Path(exists=True, dir_okay=False)
_WIDEST = 120
_RATED = 100  # fewer documents are encoded faster than a model is opened: no rate is shown


@click.command(
    epilog="""\b
Examples: semsearch reindex -m new-model/
          semsearch reindex -m new-model/ --dataset my-dataset/ --gate
          semsearch reindex --undo
"""
)
@click.option("-m", "--model", help="The model to change to: a folder or a name.")
@click.option("--undo", is_flag=True, help="Put back the index that served before.")
@click.option("--forget", is_flag=True, help="Delete what is beside the index, to free the disk.")
@index_option
@click.option("--dims", type=int, help="Store only so many dimensions.  [default: all]")
@click.option("--dataset", type=click.Path(), help="Compare old and new on it before the swap.")
@click.option("--split", help="Which qrels/SPLIT.tsv.  [default: test, else dev]")
@click.option("--queries", type=_file, help="Instead of the dataset's.")
@click.option("--qrels", type=_file, help="Instead of the dataset's.")
@click.option(
    "--measure",
    "measures",
    multiple=True,
    metavar="NAME@K",
    help="Compare by this; repeatable.  [default: ndcg@10, mrr@10, recall@100]",
)
@click.option(
    "--gate",
    is_flag=True,
    help="Exit with 3 and swap nothing if the new one is significantly worse by the first measure,"
    " as served or by its vectors alone.",
)
@click.option("--dry-run", is_flag=True, help="Build and compare, and leave the index as it is.")
@json_option
def reindex(folder: str, as_json: bool, **options: Any) -> None:
    """Change the model of an index: encode its documents anew, then swap in one commit.

    The new index is made beside the old one, in the folder `beside`, while that one serves; a run
    that was stopped goes on where it was. What served before stays beside: --undo puts it back,
    with whatever changed in between.
    """
    from semsearch.collection.layout import Layout
    from semsearch.collection.swap import swap_beside
    from semsearch.collection.writer import open_for_writing
    from semsearch.search.facade import Index

    _refuse_nonsense(options)
    old = Index(folder, None)
    old.require()
    layout = Layout(Path(folder))
    if options["forget"]:
        _forget(layout.folder, as_json)
        return
    labelled = _open_labelled(options)
    with old, Index(layout.beside.folder, None) as new, open_for_writing(layout) as live:
        before = live.snapshot.encoder
        _tell_ranking(live, options)
        done = _fill(live, new, options)
        found = None if labelled is None else _compare(old, new, labelled, options)
        failure = _worse(found) if options["gate"] else None
        swapped = failure is None and not options["dry_run"]
        if swapped:
            swap_beside(live)
        facts = _facts(live, before, done, swapped)
    if as_json:
        gate = {"gate": {"passed": failure is None}} if options["gate"] else {}
        compared = {"comparison": found.to_json()} if found else {}
        print_json({**facts, **compared, **gate})
    else:
        _print(facts, found)
    fail_gates(failure)


def _refuse_nonsense(options: dict[str, Any]) -> None:
    ways = [way for way in ("model", "undo", "forget") if options[way]]
    if len(ways) != 1:
        raise click.UsageError("choose one of -m MODEL, --undo and --forget")
    given = [n for n in ("split", "queries", "qrels", "measures", "gate") if options[n]]
    if given and not options["dataset"]:
        name = given[0].removesuffix("s") if given[0] == "measures" else given[0]
        raise click.UsageError(f"--{name} is about a comparison: name a --dataset too")
    if options["dims"] is not None and not options["model"]:
        raise click.UsageError("--dims is about a new index: give -m MODEL too")
    if options["forget"] and (options["dataset"] or options["dry_run"]):
        raise click.UsageError("--forget only deletes: leave out the other options")


def _forget(folder: Path, as_json: bool) -> None:
    from semsearch.collection.beside import forget_beside, size_of
    from semsearch.collection.layout import Layout
    from semsearch.collection.writer import open_for_writing

    layout = Layout(folder)
    with open_for_writing(layout):
        freed = size_of(layout.beside.folder)
        forget_beside(layout)
    if as_json:
        print_json({"index": str(folder), "freed": freed})
    else:
        click.echo(f"{folder}: nothing is beside it any more; {size(freed)} freed")


def _open_labelled(options: dict[str, Any]) -> BeirDataset | None:
    """What is compared on: opened before anything is encoded, so that mistakes cost no time."""
    if options["dataset"] is None:
        return None
    from semsearch.evaluation.comparing import COMPARED
    from semsearch.evaluation.labelled import require_texts
    from semsearch.metrics import Measure

    options["measures"] = [str(Measure.parse(name)) for name in options["measures"] or COMPARED]
    labelled = open_dataset(options["dataset"], options)
    require_texts(labelled)
    return labelled


def _tell_ranking(live: Writer, options: dict[str, Any]) -> None:
    from semsearch.ranking.tuned import tuned_ranking

    if options["model"] and tuned_ranking(live.snapshot, live.connection):
        note(
            "how this index was tuned to rank belongs to its model: the new one ranks by the"
            " default until it is tuned"
        )


@dataclass(frozen=True, slots=True)
class _Done:
    """What was done to the index beside, and what it is now."""

    summary: Summary
    seconds: float
    documents: int
    encoder: EncoderRow | None
    dims: int
    bytes: int


def _fill(live: Writer, new: Index, options: dict[str, Any]) -> _Done:
    """Make the index beside hold what the served one holds."""
    from semsearch.collection.beside import size_of
    from semsearch.indexing.reindex import bring_up_to_date, what_is_behind

    began = time.perf_counter()
    with _beside(live, new, options) as (beside, load):
        behind = what_is_behind(live, beside)
        with progress_bar(len(behind.rows), "encoding", "docs") as advance:
            summary = bring_up_to_date(
                live, beside, behind, load, dims=options["dims"], progress=advance
            )
        snapshot = beside.snapshot
        if snapshot.tokens.format is None:
            note("the new index keeps no token vectors: `semsearch compact --token-vectors` does")
    seconds = time.perf_counter() - began
    made = size_of(live.layout.beside.folder)
    documents = snapshot.generation.n_document
    return _Done(summary, seconds, documents, snapshot.encoder, snapshot.dims, made)


@contextmanager
def _beside(
    live: Writer, new: Index, options: dict[str, Any]
) -> Iterator[tuple[Writer, Callable[[], Encoder]]]:
    """The index beside, open for writing, and what opens its model when that is needed."""
    from semsearch.indexing.reindex import open_new_beside, open_old_beside

    if options["undo"]:
        with open_old_beside(live) as beside:
            yield beside, lambda: new.encoder_for(beside.snapshot)
        return
    encoder = _open_model(options["model"], live)
    new.adopt(encoder)
    with open_new_beside(live, encoder, options["dims"]) as beside:
        yield beside, lambda: encoder


def _open_model(name: str, live: Writer) -> Encoder:
    """The model to change to, in the precision that the index has if it was made in int8."""
    from semsearch.encoders import open_encoder

    if Path(name).is_dir():  # found again from wherever the index is used
        name = str(Path(name).resolve())
    served = live.snapshot.encoder
    in_int8 = served is not None and served.precision == "int8"
    return open_encoder(
        name, precision="int8" if in_int8 else "auto", local_only=False, or_auto=True
    )


def _compare(old: Index, new: Index, labelled: BeirDataset, options: dict[str, Any]) -> Replacement:
    from semsearch.evaluation.replacing import compare_indexes

    with progress_bar(4, "ranking", "rankings") as advance:
        return compare_indexes(old, new, labelled, options["measures"], lambda: advance(1))


def _worse(found: Replacement | None) -> str | None:
    """A line that says that the new one is worse, and that chance does not explain it."""
    reason = None if found is None else found.worse()
    return None if reason is None else f"gate failed: {reason}: nothing was swapped"


def _facts(live: Writer, before: EncoderRow | None, done: _Done, swapped: bool) -> dict[str, Any]:
    summary, serving = done.summary, live.snapshot.encoder
    return {
        "index": str(live.layout.folder),
        "documents": done.documents,
        "encoded": summary.encoded,
        "changed": summary.new + summary.updated + summary.moved,
        "removed": summary.pruned,
        "tokens": summary.tokens,
        "seconds": round(done.seconds, 3),
        "bytes": done.bytes,
        "dims": done.dims,
        "old": before.name if before else None,
        "new": done.encoder.name if done.encoder else None,
        "swapped": swapped,
        "serving": serving.name if serving else None,
        "generation": live.snapshot.generation.gen,
    }


def _print(facts: dict[str, Any], found: Replacement | None) -> None:
    from semsearch.evaluation.compare_table import comparison_lines

    encoded, seconds = facts["encoded"], facts["seconds"]
    rate = f", {encoded / seconds:,.0f} texts/s" if encoded >= _RATED else ""
    removed = f"; {count(facts['removed'], 'document')} removed" if facts["removed"] else ""
    click.echo(
        f"{facts['index']}: {count(facts['documents'], 'document')} by {facts['new']}, in"
        f" {size(facts['bytes'])}: {count(encoded, 'text')} encoded in {seconds:.1f} s"
        f"{rate}{removed}"
    )
    if found is not None:
        width = min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST)
        served = comparison_lines(found.served, width=width, mark=bold)
        dense = comparison_lines(found.dense, width=width, mark=bold, moved=0)
        for line in ["", *served, "", *dense, ""]:
            click.echo(line)
    click.echo(f"serving {facts['serving']}, generation {facts['generation']:,}")
    if facts["swapped"]:
        click.echo(
            f"{facts['old']} is kept beside it: `semsearch reindex --undo` puts it back,"
            " --forget frees its space"
        )
    else:
        click.echo(f"{facts['new']} stays beside it: without --dry-run or --gate it is swapped in")
