"""The page: everything that an evaluation found, in one file that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from semsearch import fs
from semsearch.evaluation.checks import TOP, Check, DataChecks, example_text
from semsearch.evaluation.columns import number
from semsearch.evaluation.html.figures import Plot, all_plots
from semsearch.evaluation.html.markup import definitions, esc, paragraph, section
from semsearch.evaluation.html.points import Costs, Point, best_of_groups, points_of
from semsearch.evaluation.html.setting import index_facts, machine_facts
from semsearch.evaluation.html.style import style
from semsearch.evaluation.html.svg import inline_svg
from semsearch.evaluation.html.tables import (
    all_measures_table,
    cost_table,
    group_table,
    main_table,
    minus,
)
from semsearch.evaluation.html.worst import WorstQuery, without, worst_queries, worst_section
from semsearch.evaluation.report import MAIN_MEASURE, Report
from semsearch.metrics.rules import RULES
from semsearch.types import Run

if TYPE_CHECKING:
    from semsearch.collection.reader import Reader

_NOTHING_LOADS = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class Content:
    """What a page shows. ``points`` are the report's distinct rows, the first one first."""

    report: Report
    points: Sequence[Point]
    plots: Sequence[Plot]
    worst: Sequence[WorstQuery] = ()
    facts: Sequence[tuple[str, str]] = ()
    measure: str = MAIN_MEASURE


def content_of(
    report: Report,
    run: Run | None = None,
    costs: Costs | None = None,
    reader: Reader | None = None,
    *,
    measure: str = MAIN_MEASURE,
    ignore_identical_ids: bool = False,
) -> Content:
    """Gather what a page shows.

    ``run`` is the first row's ranking, for the worst queries; ``reader`` has the texts of their
    documents, and what is said about the index. ``measure`` is the one that is drawn.
    """
    points = points_of(report, costs, measure)
    worst = []
    if run is not None and report.dataset is not None:
        if ignore_identical_ids:
            run = {query: without(scores, query) for query, scores in run.items()}
        worst = worst_queries(points, report.dataset, run, reader, measure)
    facts = [*index_facts(reader), *machine_facts()]
    return Content(report, points, all_plots(points, measure), worst, facts, measure)


def write_page(path: str | Path, content: Content) -> None:
    """Write the page. Raises StorageError."""
    with fs.storage_errors(Path(path)):
        Path(path).write_text(page(content), encoding="utf-8", errors="replace")


def page(content: Content) -> str:
    """The page as HTML: no script, and nothing that a browser would fetch."""
    report, points = content.report, content.points
    name = report.dataset.folder.resolve().name if report.dataset else "evaluation"
    body = [
        _head(name, content),
        section("Results", _RESULTS, main_table(points, content.measure), _all_measures(points)),
        _groups(report, content.measure),
        _figures("Quality and cost", [plot for plot in content.plots if not plot.square]),
        section("Cost", _COST, cost_table(points)) if any(map(_has_cost, points)) else "",
        _figures("Query by query", [plot for plot in content.plots if plot.square]),
        worst_section(content.worst, points[0].name, content.measure),
        _data(report, points),
        section("How the numbers are computed", _rules()),
        section("Setting", definitions((term, esc(said)) for term, said in content.facts)),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_NOTHING_LOADS}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{esc(name)}: retrieval evaluation</title>\n<style>{style()}</style>\n</head>\n"
        f"<body>\n{chr(10).join(part for part in body if part)}\n</body>\n</html>\n"
    )


_RESULTS = paragraph(
    "Means over the queries; below each its 95 % bootstrap interval, which the whisker draws for"
    " the first measure. The difference is that from the first row, query by query; where its"
    " interval holds 0, it is open which of the two is better. The best of a column is bold.",
    "about",
)
_COST = paragraph(
    "Bytes per passage are those of the files of this index, its vectors counted at the row's"
    " width; the texts themselves are not counted. Times are of single queries from text to hits,"
    " one after the other on a warm index; of so few, p99 is the slowest or nearly so.",
    "about",
)


def _head(name: str, content: Content) -> str:
    report = content.report
    parts = [_count(report.queries, "query", "queries")]
    if report.split:
        parts[0] += f" of split {report.split}"
    known = dict(content.facts)
    parts += [known[key] for key in ("index", "model") if key in known]
    return (
        f'<header><p class="kicker">Retrieval evaluation</p><h1>{esc(name)}</h1>'
        f"{paragraph('; '.join(parts), 'about')}{_lead(content.points, content.measure)}</header>"
    )


def _lead(points: Sequence[Point], measure: str) -> str:
    """The first row in a sentence, and how it stands to the best row of each other group."""
    first = points[0]
    said = (
        f"{esc(first.name)} has an {esc(measure)} of"
        f' <span class="number">{number(first.value)}</span>,'
        f" 95 % interval {number(first.low)} to {number(first.high)}"
    )
    against = []
    for other in best_of_groups(points)[1:]:
        found = other.difference
        if found is not None:
            interval = f"{minus(-found.high)} to {minus(-found.low)}"
            against.append(f"{minus(-found.mean)} against {esc(other.name)} ({interval})")
    return f'<p class="lead">{said}{": " if against else ""}{", ".join(against)}.</p>'


def _figures(title: str, shown: Sequence[Plot]) -> str:
    if not shown:
        return ""
    figures = "\n".join(
        f"<figure>{inline_svg(plot.drawing)}<figcaption>{esc(plot.caption)}</figcaption></figure>"
        for plot in shown
    )
    return section(title, f'<div class="plots">\n{figures}\n</div>')


def _all_measures(points: Sequence[Point]) -> str:
    return (
        "<details><summary>All measures</summary>"
        f'<div class="inside">{all_measures_table(points)}</div></details>'
    )


def _groups(report: Report, measure: str) -> str:
    groups = report.results[0].groups
    if not groups:
        return ""
    about = paragraph(f"The first row by {report.group_by} of the queries.", "about")
    return section("Groups of queries", about, group_table(groups, measure))


def _data(report: Report, points: Sequence[Point]) -> str:
    checks = report.checks
    if checks is None:
        return ""
    about = paragraph("What was looked for before these numbers are believed.", "about")
    pairs = [(f"not judged, top {TOP}", _unjudged(checks, points))]
    pairs.append(("without results", _without_results(report)))
    pairs += [(check.name.replace("_", " "), _check(check)) for check in checks.checks]
    return section("The data", about, definitions(pairs))


def _unjudged(checks: DataChecks, points: Sequence[Point]) -> str:
    shares = [share for share in checks.unjudged if share is not None]
    if not shares:
        return "no hits"
    said = f"{100 * shares[0]:.0f} % of the hits of {points[0].name}"
    if len(shares) > 1:
        said += f"; over all rows {100 * min(shares):.0f} to {100 * max(shares):.0f} %"
    why = "Nobody judged them: they count as not relevant, whatever they are."
    return f"{esc(said)}<small>{esc(why)}</small>"


def _without_results(report: Report) -> str:
    if not report.without_results:
        return f"none of {report.queries:,}"
    why = "They score 0 and stay in the mean. Counted in the row that has most of them."
    return f"{report.without_results:,} of {report.queries:,}<small>{esc(why)}</small>"


def _check(check: Check) -> str:
    if not check.count:
        return f"none of {check.out_of:,}"
    told = "; ".join(map(example_text, check.examples))
    more = " ..." if check.count > len(check.examples) else ""
    found = f"{check.count:,} of {check.out_of:,}: {told}{more}"
    return f"{esc(found)}<small>{esc(check.why)}</small>"


def _rules() -> str:
    listed = definitions((rule.subject, _rule(rule.ours, rule.others)) for rule in RULES)
    about = paragraph("Equal to trec_eval, query by query.", "about")
    return f'{about}<details><summary>Rules</summary><div class="inside">{listed}</div></details>'


def _rule(ours: str, others: str) -> str:
    return esc(ours) + (f"<small>Differs: {esc(others)}</small>" if others else "")


def _has_cost(point: Point) -> bool:
    return point.size is not None or point.latency is not None


def _count(amount: int, one: str, many: str) -> str:
    return f"{amount:,} {one if amount == 1 else many}"
