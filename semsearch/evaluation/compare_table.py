"""A comparison as people read it: a table a measure, the verdict, groups, queries that moved."""

from __future__ import annotations

from collections.abc import Callable

from semsearch.evaluation.checks import TOP
from semsearch.evaluation.columns import (
    NOTHING,
    Cell,
    Column,
    align,
    bounds,
    count,
    cut,
    number,
    numbers,
    one_line,
    probability,
    signed,
    signed_bounds,
    words,
)
from semsearch.evaluation.comparison import Comparison, SystemResult
from semsearch.evaluation.groups import FEWEST
from semsearch.evaluation.report import SIGNIFICANT
from semsearch.metrics import Measure

Mark = Callable[[str], str]

_UNEVEN = 0.05
"""From this difference in the share of hits that nobody judged on, it is told."""

MOVED = 5
"""Queries shown each way where no number is asked for."""

WIDTH = 100
"""Columns of text where nothing else is said."""


def comparison_lines(
    comparison: Comparison, *, moved: int = MOVED, width: int = WIDTH, mark: Mark | None = None
) -> list[str]:
    """Tables, notes, groups, and for each system the queries that moved most, ``moved`` each way.

    ``mark`` is given what is to be shown in bold: differences that chance does not explain.
    Texts of queries are cut so that lines have at most ``width`` columns.
    """
    lines: list[str] = []
    for measure in comparison.measures:
        lines += [*_table(comparison, measure, mark), ""]
    lines += note_lines(comparison)
    if comparison.group_by is not None:
        lines += ["", *_groups(comparison)]
    for system in comparison.systems[1:]:
        lines += _moved(comparison, system, moved, width)
    return lines


def _table(comparison: Comparison, measure: str, mark: Mark | None) -> list[str]:
    systems = comparison.systems
    changes = [system.differences.get(measure) for system in systems]
    differences = [Cell("baseline")]
    for d in changes[1:]:
        if d is not None:
            text = signed(d.difference) + signed_bounds(d.interval)
            differences.append(Cell(text, d.p_holm < SIGNIFICANT))
    records = [f"{d.wins}/{d.ties}/{d.losses}" if d else "" for d in changes]
    means = [number(s.metrics[measure]) + bounds(s.intervals[measure]) for s in systems]
    columns = [
        words("system", [system.name for system in systems]),
        words(measure, means),
        Column("difference", differences, words=True),
        numbers("p", [probability(d.p_holm) if d else "" for d in changes]),
        numbers("wins/ties/losses", records),
    ]
    return align(columns, mark)


def note_lines(comparison: Comparison) -> list[str]:
    """What must be known to read the tables, and the verdict on the main measure."""
    first = count(comparison.queries, "query", "queries")
    if comparison.split:
        first += f" of split {comparison.split}"
    tests = len(comparison.systems) - 1
    corrected = f", Holm-corrected over {tests} systems" if tests > 1 else ""
    lines = [
        f"{first}; [low, high]: 95 % bootstrap interval; p: paired randomisation test{corrected}",
        *_verdicts(comparison),
    ]
    if comparison.skipped:
        left_out = count(comparison.skipped, "query", "queries")
        lines.append(f"{left_out} left out: no document is judged relevant")
    for system in comparison.systems:
        lines += [f"{system.name}: {fact}" for fact in _facts(comparison, system)]
    return [*lines, *_unjudged(comparison)]


def _facts(comparison: Comparison, system: SystemResult) -> list[str]:
    """What makes a system worse than it need be."""
    facts = []
    if empty := len(system.evaluation.without_results):
        facts.append(f"{count(empty, 'query', 'queries')} got no results and scored 0")
    if system.missing_documents:
        lacking = count(system.missing_documents, "relevant document")
        facts.append(f"{lacking} cannot be found: not in the index")
    depth = max(map(len, system.run.values()), default=0)
    deeper = [name for name in comparison.measures if Measure.parse(name).k > depth]
    if deeper and system.missing_documents is None:
        documents = count(depth, "document")
        facts.append(f"at most {documents} a query, and {', '.join(deeper)} looks deeper")
    return facts


def _unjudged(comparison: Comparison) -> list[str]:
    """Say so when one system's hits were judged less than another's."""
    shares = {s.name: s.unjudged for s in comparison.systems if s.unjudged is not None}
    if not shares or max(shares.values()) - min(shares.values()) < _UNEVEN:
        return []
    listed = ", ".join(f"{100 * share:.0f} % of {name}'s" for name, share in shares.items())
    return [f"not judged, so not relevant, in the top {TOP}: {listed}"]


def _verdicts(comparison: Comparison) -> list[str]:
    measure, baseline = comparison.measures[0], comparison.baseline.name
    lines = []
    for system in comparison.systems[1:]:
        found = system.differences[measure]
        if found.p_holm >= SIGNIFICANT:
            verdict = f"no clear difference from {baseline}"
        else:
            verdict = f"{'better' if found.difference > 0 else 'worse'} than {baseline}"
        lines.append(f"{system.name}: {verdict} ({measure})")
    return lines


def _groups(comparison: Comparison) -> list[str]:
    measure, baseline = comparison.measures[0], comparison.baseline
    columns = [
        words(comparison.group_by or "", [group.value for group in baseline.groups]),
        numbers("queries", [f"{group.queries:,}" for group in baseline.groups]),
    ]
    for system in comparison.systems:
        means = [
            number(group.metrics[measure]) + bounds(group.intervals.get(measure))
            for group in system.groups
        ]
        columns.append(words(system.name, means))
        if system is not baseline:
            changes = [
                signed(group.differences[measure])
                + signed_bounds(group.difference_intervals.get(measure))
                for group in system.groups
            ]
            columns.append(words("difference", changes))
    note = f"by {comparison.group_by}, {measure}; no interval for fewer than {FEWEST} queries"
    return [note, *align(columns)]


def _moved(comparison: Comparison, system: SystemResult, most: int, width: int) -> list[str]:
    found = comparison.moved(system, most=most)
    if not found:
        return []
    baseline, measure = comparison.baseline.name, comparison.measures[0]
    columns = [
        numbers("change", [signed(m.value - m.baseline) for m in found]),
        numbers(baseline, [number(m.baseline) for m in found]),
        numbers(system.name, [number(m.value) for m in found]),
        words("query", [m.query_id for m in found]),
    ]
    texts = [one_line(m.text) or NOTHING for m in found]
    lines = align([*columns, words("", texts)])
    heading = f"the queries that moved most from {baseline} to {system.name} ({measure})"
    return ["", heading, *(cut(line, width) for line in lines)]
