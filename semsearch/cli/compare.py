"""``semsearch compare``: indexes, models, ways to search and run files side by side."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from semsearch.cli.labelled import (
    STDOUT,
    fail_gates,
    labelled_options,
    open_dataset,
    open_index,
    put_records,
    refuse_two_outputs,
)
from semsearch.cli.output import bold, json_option, print_json, progress_bar

if TYPE_CHECKING:
    from pathlib import Path

    from semsearch.corpus import BeirDataset
    from semsearch.evaluation import Comparison
    from semsearch.evaluation.gates import GateResult, Limit
    from semsearch.evaluation.systems import System, Written
    from semsearch.search.facade import Index

_WIDEST = 120


@click.command(
    epilog="""\b
Examples: semsearch compare my-dataset/ dense lexical hybrid
          semsearch compare my-dataset/ hybrid+none hybrid+self
          semsearch compare my-dataset/ bm25.trec other.trec.gz
          semsearch compare my-dataset/ old.idx new.idx new.idx:dense@128
          semsearch compare my-dataset/ -m model-a -m model-b
          semsearch compare my-dataset/ base tuned tuned:dense@128
          semsearch compare qrels.tsv a.trec b=new/a.trec --max-drop 0.01
"""
)
@click.argument("dataset", type=click.Path())
@click.argument("systems", nargs=-1, metavar="[SYSTEM]...")
@click.option(
    "-i",
    "--index",
    "folder",
    envvar="SEMSEARCH_INDEX",
    type=click.Path(file_okay=False),
    help="The index of a MODE.  [default: one made from the dataset, kept in the cache]",
)
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    help="The model of the index made from the dataset; give several to compare them.",
)
@labelled_options
@click.option(
    "--measure",
    "measures",
    multiple=True,
    metavar="NAME@K",
    help="Compare by this; repeatable.  [default: ndcg@10, mrr@10, recall@100]",
)
@click.option(
    "--moved",
    type=click.IntRange(min=0),
    metavar="N",
    help="Show so many of the queries that moved most, up and down.  [default: 5; 10 with --json]",
)
@click.option(
    "--per-query",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="OUT",
    help="Write all values of every query: .jsonl, else a table; - prints it.",
)
@click.option(
    "--max-drop",
    "drops",
    multiple=True,
    metavar="[MEASURE=]X",
    help="Exit with 3 if a system's mean is lower than the baseline's by more, as in 0.01 (of"
    " ndcg@10) or mrr@10=0.02; repeatable. The drop counts as measured, significant or not.",
)
@json_option
def compare(dataset: str, systems: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Compare SYSTEMs on DATASET, query by query; the first one is the baseline.

    \b
    A SYSTEM is one of
      run.trec           a run file, of any system (TREC or MS MARCO, .gz too)
      my.idx             an index folder: its default pipeline, as `query` runs it
      dense, dense@128, hybrid+none, dense@128+self
                         a mode, a width, a reranker (none, self or a cross-encoder's folder):
                         as `query` with --mode, --dims and --rerank;
                         on the index of -i, or one made from DATASET with each -m
      my-model/          a model's folder: the index made from DATASET with it
      my.idx:dense@128   a folder and a mode
      NAME=SYSTEM        any of them, with a name for the table

    -m without a mode is the default pipeline of that model's index. Where all are run files DATASET
    may be a qrels file.
    """  # noqa: D301 (click's mark for a block that is not to be wrapped)
    from semsearch.evaluation import compare as measure
    from semsearch.evaluation.gates import failures, parse_drop

    refuse_two_outputs(options["per_query"], as_json)
    limits = [parse_drop(text) for text in options["drops"]]
    labelled = open_dataset(dataset, options)
    with ExitStack() as stack:
        opened = _open_systems(systems, labelled, options, stack)
        with progress_bar(len(opened) or None, "ranking", "systems") as advance:
            found = measure(
                opened,
                labelled,
                measures=_measures(options["measures"], limits),
                group_by=options["group_by"],
                ignore_identical_ids=options["ignore_identical_ids"],
                on_run=lambda *_: advance(1),
            )
    gates = _check(found, limits)
    _put(found, gates, options, as_json)
    fail_gates(failures(gates))


def _open_systems(
    texts: tuple[str, ...], dataset: BeirDataset, options: dict[str, Any], stack: ExitStack
) -> list[System]:
    """The systems in the order they were written; a mode once for each model."""
    from semsearch.evaluation.pipelines import default_pipeline
    from semsearch.evaluation.systems import System, open_written, parse_system, short_names

    written = [parse_system(text) for text in texts]
    models: tuple[str | None, ...] = options["models"] or (None,)
    if options["folder"] and len(models) > 1:
        raise click.UsageError("-i names one index and -m several models: leave out one of them")
    indexes: dict[tuple[str | None, str | None], Index] = {}

    def of(model: str | None, folder: str | None = options["folder"]) -> Index:
        if (model, folder) not in indexes:
            index = open_index(dataset, folder, model, options["fresh"])
            indexes[model, folder] = stack.enter_context(index)
        return indexes[model, folder]

    def of_all(one: Written) -> list[System]:
        pipeline = one.pipeline or default_pipeline()
        if one.folder and _is_model(one.folder):
            return [System(one.name, None, of(str(one.folder), None), pipeline)]
        if one.run_file or one.folder:
            return [open_written(one, stack)]
        several = len(models) > 1
        return [
            System(f"{model}:{one.name}" if several else one.name, None, of(model), pipeline)
            for model in models
        ]

    systems = [system for one in written for system in of_all(one)]
    if options["models"] and not any(_is_mode(one) for one in written):
        systems += [System(model, None, of(model)) for model in models if model]
    names = short_names([system.name for system in systems])
    return [
        System(name, system.run, system.index, system.pipeline)
        for name, system in zip(names, systems, strict=True)
    ]


def _is_model(folder: Path) -> bool:
    """Whether this is a sentence-transformers model, not an index."""
    return (folder / "modules.json").is_file()


def _is_mode(written: Written) -> bool:
    return written.run_file is None and written.folder is None


def _measures(named: tuple[str, ...], limits: list[Limit]) -> list[str]:
    """What is compared, and what the gates need beside it."""
    from semsearch.evaluation.comparing import COMPARED
    from semsearch.metrics import Measure

    measures = [str(Measure.parse(name)) for name in named or COMPARED]
    known = {Measure.parse(name) for name in measures}
    needed = [limit.measure for limit in limits if Measure.parse(limit.measure) not in known]
    return measures + needed


def _check(found: Comparison, limits: list[Limit]) -> list[GateResult]:
    from semsearch.evaluation.gates import Baseline, check_drop

    first = found.baseline
    baseline = Baseline(first.metrics, first.evaluation)
    return [
        check_drop(limit, system.evaluation, baseline, system.name)
        for limit in limits
        for system in found.systems[1:]
    ]


def _put(
    found: Comparison, gates: list[GateResult], options: dict[str, Any], as_json: bool
) -> None:
    from semsearch.evaluation.compare_table import MOVED, comparison_lines
    from semsearch.evaluation.queries import compared_records

    moved = options["moved"]
    if options["per_query"]:
        put_records(options["per_query"], compared_records(found))
    if as_json:
        more = {"gates": [gate.to_json() for gate in gates]} if gates else {}
        print_json({**found.to_json(10 if moved is None else moved), **more})
    elif options["per_query"] != STDOUT:
        width = min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST)
        shown = MOVED if moved is None else moved
        lines = comparison_lines(found, moved=shown, width=width, mark=bold)
        passed = [f"gate passed: {gate}" for gate in gates if gate.passed]
        for line in [*lines, *([""] if passed else []), *passed]:
            click.echo(line)
