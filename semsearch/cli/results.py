"""What ``semsearch evaluate`` prints and writes: the table, groups, queries, gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from semsearch.cli.labelled import STDOUT, put_records
from semsearch.cli.output import bold, print_json
from semsearch.cli.page import write_report
from semsearch.cli.worst import print_worst, titles_of

if TYPE_CHECKING:
    from semsearch.corpus import BeirDataset
    from semsearch.evaluation import Measuring, Report
    from semsearch.evaluation.gates import GateResult, Limit
    from semsearch.evaluation.pipelines import Pipeline
    from semsearch.evaluation.queries import QueryResult
    from semsearch.search.facade import Index
    from semsearch.types import Run


@dataclass(frozen=True, slots=True)
class Measured:
    """A report with the ranking of its first row; the index, if one was asked, and how."""

    labelled: BeirDataset
    report: Report
    run: Run
    how: Measuring
    index: Index | None = None
    pipelines: Sequence[Pipeline] = ()


class Limits(NamedTuple):
    """What the first row must reach, and how far it may fall."""

    gates: list[Limit]
    drops: list[Limit]


def put_results(
    found: Measured, options: dict[str, Any], limits: Limits, as_json: bool
) -> str | None:
    """Write and print all that was asked for; the line that says which gates failed, if any."""
    from semsearch.evaluation.gates import failures
    from semsearch.evaluation.report import way_of

    gates = _check(found, limits, options["baseline"])
    if options["run_file"]:
        from semsearch.corpus import write_run

        write_run(options["run_file"], found.run)
    if options["per_query"]:
        records = [result.record() for result in _queries(found, options)]
        put_records(options["per_query"], records)
    if options["page"] or options["plots"]:
        write_report(found, _main(options), options["page"], options["plots"])
    worst = _queries(found, options, options["worst"]) if options["worst"] else []
    if as_json:
        more: dict[str, Any] = {"gates": [gate.to_json() for gate in gates]} if gates else {}
        if worst:
            more["worst"] = [result.record() for result in worst]
        print_json({**found.report.to_json(), **more})
    elif options["per_query"] != STDOUT:
        print_report(found.report, options["measures"])
        for gate in gates:
            if gate.passed:
                click.echo(f"gate passed: {gate}")
        if worst:
            who = way_of(found.report.results[0])
            print_worst(worst, titles_of(worst, found.index), who, _main(options))
    return failures(gates)


def _check(found: Measured, limits: Limits, baseline: str | None) -> list[GateResult]:
    from semsearch.evaluation.gates import check_drop, check_gate, open_baseline

    evaluation = found.report.results[0].evaluation
    if evaluation is None:
        return []
    results = [check_gate(limit, evaluation) for limit in limits.gates]
    if baseline is not None:
        before = open_baseline(baseline, found.labelled, found.how)
        results += [check_drop(limit, evaluation, before) for limit in limits.drops]
    return results


def _queries(
    found: Measured, options: dict[str, Any], most: int | None = None
) -> list[QueryResult]:
    from semsearch.evaluation.queries import query_results

    evaluation = found.report.results[0].evaluation
    if evaluation is None:
        return []
    return query_results(
        found.labelled,
        evaluation,
        found.run,
        _main(options),
        most,
        ignore_identical_ids=options["ignore_identical_ids"],
    )


def _main(options: dict[str, Any]) -> str:
    """The measure by which queries are bad."""
    from semsearch.evaluation.report import MAIN_MEASURE

    return options["measures"][0] if options["measures"] else MAIN_MEASURE


def print_report(report: Report, measures: tuple[str, ...] = ()) -> None:
    """The table with the best of each column in bold, its notes, then groups if there are any."""
    from semsearch.evaluation.report import (
        MAIN_MEASURE,
        TABLE_MEASURES,
        group_lines,
        note_lines,
        table_lines,
    )

    exact = measures or (MAIN_MEASURE,)
    shown = measures or TABLE_MEASURES
    lines = table_lines(report, measures=shown, with_interval=exact, mark=bold)
    lines += note_lines(report, exact)
    groups = group_lines(report, exact)
    for line in [*lines, *([""] if groups else []), *groups]:
        click.echo(line)
