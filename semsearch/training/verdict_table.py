"""A verdict as people read it: a row for each pipeline, what it means, the queries that moved."""

from __future__ import annotations

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
    p_is,
    probability,
    signed,
    signed_bounds,
    words,
)
from semsearch.evaluation.compare_table import MOVED, WIDTH, Mark
from semsearch.training.verdict_rows import Side, Verdict, VerdictRow


def verdict_lines(
    verdict: Verdict, mark: Mark | None = None, *, moved: int = MOVED, width: int = WIDTH
) -> list[str]:
    """The table, its notes, and the queries of the first row that moved most, ``moved`` each way.

    ``mark`` is given what is to be shown in bold: differences that chance does not explain. Texts
    of queries are cut so that lines have at most ``width`` columns.
    """
    return [*_table(verdict, mark), "", *_notes(verdict), *_moved(verdict, moved, width)]


def _table(verdict: Verdict, mark: Mark | None) -> list[str]:
    rows = verdict.rows
    clear = [row.word != "NO DIFFERENCE" for row in rows]
    changes = [signed(r.change.difference) + signed_bounds(r.change.interval) for r in rows]
    columns = [
        words(verdict.measure, [row.name for row in rows]),
        numbers("base", [number(row.base.mean) for row in rows]),
        words("tuned", [number(row.tuned.mean) + bounds(row.tuned.interval) for row in rows]),
        Column("difference", list(map(Cell, changes, clear)), words=True),
        numbers("p", [probability(row.change.p_holm) for row in rows]),
        numbers("wins/ties/losses", [_record(row) for row in rows]),
        numbers("base keeps", [_percent(row.base.kept) for row in rows]),
        numbers("tuned keeps", [_percent(row.tuned.kept) for row in rows]),
        Column("verdict", [Cell(r.word, c) for r, c in zip(rows, clear, strict=True)], words=True),
    ]
    return align(columns, mark)


def _record(row: VerdictRow) -> str:
    return f"{row.change.wins}/{row.change.ties}/{row.change.losses}"


def _percent(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.1f} %"


def _notes(verdict: Verdict) -> list[str]:
    first, tests = verdict.rows[0], len(verdict.rows)
    change = signed(first.change.difference) + signed_bounds(first.change.interval)
    lines = [
        f"{count(verdict.queries, 'query', 'queries')} of split {verdict.split}; [low, high]: 95 %"
        f" bootstrap interval; p: paired randomisation test, Holm-corrected over {tests} rows",
        f"base: {one_line(verdict.base.model)}; tuned: {one_line(verdict.tuned.model)};"
        " keeps: share of the mean at the model's full width",
        f"{verdict.word}: {first.name}, {change} {verdict.measure}, {p_is(first.change.p_holm)}",
    ]
    if verdict.skipped:
        left_out = count(verdict.skipped, "query", "queries")
        lines.append(f"{left_out} left out: no document is judged relevant")
    for name, side in (("base", verdict.base), ("tuned", verdict.tuned)):
        lines += [f"{name}: {fact}" for fact in _facts(side)]
    return lines


def _facts(side: Side) -> list[str]:
    """What makes a side differ for another reason than its vectors."""
    facts = []
    if side.missing_documents:
        lacking = count(side.missing_documents, "relevant document")
        facts.append(f"{lacking} cannot be found: not in the corpus")
    if side.tuned_ranking:
        facts.append("its index ranks as `semsearch tune` has set it (hybrid)")
    return facts


def _moved(verdict: Verdict, most: int, width: int) -> list[str]:
    row = verdict.rows[0]
    found = verdict.moved(row, most)
    if not found:
        return []
    columns = [
        numbers("change", [signed(m.value - m.baseline) for m in found]),
        numbers("base", [number(m.baseline) for m in found]),
        numbers("tuned", [number(m.value) for m in found]),
        words("query", [m.query_id for m in found]),
        words("", [one_line(m.text) or NOTHING for m in found]),
    ]
    heading = f"the queries that moved most from base to tuned ({row.name}, {verdict.measure})"
    return ["", heading, *(cut(line, width) for line in align(columns))]
