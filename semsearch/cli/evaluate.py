"""``semsearch evaluate``: labelled queries in, a table of measures out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from semsearch.cli.labelled import (
    fail_gates,
    labelled_options,
    open_dataset,
    open_index,
    refuse_two_outputs,
)
from semsearch.cli.output import json_option, mode_option, progress_bar
from semsearch.cli.page import check_targets
from semsearch.cli.ranking import ranking_of, ranking_option, rerank_option
from semsearch.cli.results import Limits, Measured, put_results

if TYPE_CHECKING:
    from semsearch.corpus import BeirDataset
    from semsearch.evaluation import Measuring
    from semsearch.evaluation.pipelines import Pipeline, Wanted
    from semsearch.search.facade import Index
    from semsearch.types import Run

_OF_AN_INDEX = ("folder", "model", "mode", "dims", "rerank", "settings", "fresh", "run_file")


@click.command(
    epilog="""\b
Examples: semsearch evaluate my-dataset/
          semsearch evaluate my-dataset/ -i my.idx --mode dense --dims 384,128
          semsearch evaluate my-dataset/ --rerank none
          semsearch evaluate my-dataset/ --ranking fusion=rrf --ranking depth=200
          semsearch evaluate my-dataset/ --from-run bm25.trec --worst 10
          semsearch evaluate my-dataset/ --gate ndcg@10=0.60
          semsearch evaluate my-dataset/ --baseline last.trec --max-drop 0.01
"""
)
@click.argument("dataset", required=False, type=click.Path())
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
    "--from-run",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="Measure this run file (TREC or MS MARCO, - for stdin) instead of an index.",
)
@labelled_options
@mode_option
@click.option("--dims", help="Widths to measure, such as 384,128.  [default: several]")
@rerank_option
@ranking_option
@click.option(
    "--measure",
    "measures",
    multiple=True,
    metavar="NAME@K",
    help="Show these, with intervals, such as ndcg@10; repeatable.  [default: six]",
)
@click.option(
    "--run", "run_file", type=click.Path(dir_okay=False), help="Write the first row's TREC run."
)
@click.option(
    "--per-query",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="OUT",
    help="Write every query of the first row, worst first: .jsonl, else a table; - prints it.",
)
@click.option(
    "--worst", type=click.IntRange(min=1), metavar="N", help="Show the worst queries of that row."
)
@click.option(
    "--gate",
    "gates",
    multiple=True,
    metavar="MEASURE=X",
    help="Exit with 3 if the first row's mean is below, as in ndcg@10=0.60; repeatable.",
)
@click.option(
    "--baseline",
    type=click.Path(exists=True, dir_okay=False),
    help="An earlier run file, or what --json printed; for --max-drop.",
)
@click.option(
    "--max-drop",
    "drops",
    multiple=True,
    metavar="[MEASURE=]X",
    help="Exit with 3 if the first row's mean is lower than the baseline's by more, as in 0.01"
    " (of ndcg@10) or mrr@10=0.02; repeatable. The drop counts as measured, significant or not;"
    " its interval and p are printed.",
)
@click.option(
    "--report", "page", type=click.Path(dir_okay=False), help="Write an HTML page of everything."
)
@click.option(
    "--plots", type=click.Path(file_okay=False), help="Write the page's plots, as SVG and PNG."
)
@click.option("--explain-metrics", is_flag=True, help="Print the rule of every number, and stop.")
@json_option
def evaluate(dataset: str | None, as_json: bool, **options: Any) -> None:
    """Measure DATASET: a folder with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv.

    First the pipeline that `query` runs, then every mode at every width without reranking; all from
    one encoding of the corpus. With --mode or --dims exactly those, as `query` would rerank them;
    --rerank and --ranking alone change the first. With --from-run only that file is measured;
    DATASET may then be a qrels file.
    """
    if options["explain_metrics"]:
        from semsearch.metrics import explain_rules

        click.echo(explain_rules())
        return
    if dataset is None:
        raise click.UsageError("Missing argument 'DATASET'.")
    refuse_two_outputs(options["per_query"], as_json)
    check_targets(options["page"], options["plots"])
    limits = _limits(options)
    labelled = open_dataset(dataset, options)
    how = _measuring(options, limits)
    if options["from_run"]:
        failed = put_results(_of_run(labelled, options, how), options, limits, as_json)
    else:
        folder, model = options["folder"], options["model"]
        with open_index(labelled, folder, model, options["fresh"]) as index:
            failed = put_results(_of_index(index, labelled, options, how), options, limits, as_json)
    fail_gates(failed)


def _limits(options: dict[str, Any]) -> Limits:
    from semsearch.evaluation.gates import parse_drop, parse_gate

    if bool(options["drops"]) != bool(options["baseline"]):
        raise click.UsageError(
            "--baseline and --max-drop belong together (to see differences: `semsearch compare`)"
        )
    gates, drops = options["gates"], options["drops"]
    return Limits(list(map(parse_gate, gates)), list(map(parse_drop, drops)))


def _measuring(options: dict[str, Any], limits: Limits) -> Measuring:
    from semsearch.evaluation import Measuring
    from semsearch.metrics import DEFAULT_MEASURES

    wanted = [limit.measure for limit in (*limits.gates, *limits.drops)]
    return Measuring(
        (*DEFAULT_MEASURES, *options["measures"], *wanted),
        options["ignore_identical_ids"],
        options["group_by"],
    )


def _of_run(labelled: BeirDataset, options: dict[str, Any], how: Measuring) -> Measured:
    from semsearch.corpus import read_run
    from semsearch.corpus.text import name_of
    from semsearch.evaluation import evaluate_ranking

    given = [name for name in _OF_AN_INDEX if options[name] and not _from_environment(name)]
    if given:
        raise click.UsageError("--from-run measures that file: it goes with no option of an index")
    run = read_run(options["from_run"])
    name = name_of(options["from_run"])
    report = evaluate_ranking(run, labelled, name=name, measuring=how)
    return Measured(labelled, report, run, how)


def _from_environment(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.ENVIRONMENT


def _of_index(
    index: Index, labelled: BeirDataset, options: dict[str, Any], how: Measuring
) -> Measured:
    from dataclasses import replace

    from semsearch.evaluation.measure import evaluate_pipelines

    runs: list[Run] = []
    pipelines: list[Pipeline] = []
    with progress_bar(None, "measuring", "pipelines") as advance:

        def keep(pipeline: Pipeline, run: Run) -> None:
            advance(1)
            pipelines.append(pipeline)
            runs.extend([] if runs else [run])

        measuring = replace(how, on_run=keep)
        report = evaluate_pipelines(index, labelled, _wanted(index, options), measuring=measuring)
    return Measured(labelled, report, runs[0], how, index, pipelines)


def _wanted(index: Index, options: dict[str, Any]) -> Wanted:
    from semsearch.evaluation.pipelines import Wanted

    modes = [options["mode"]] if options["mode"] else None
    ranking = ranking_of(index, options["settings"])
    return Wanted(modes, _dims(options["dims"]), options["rerank"], ranking)


def _dims(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a list such as 384,128", param_hint="--dims"
        ) from None
