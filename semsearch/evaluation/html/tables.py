"""The tables of a report: every measure with its interval, and what each pipeline costs."""

from __future__ import annotations

from collections.abc import Sequence

from semsearch.evaluation.columns import bounds, number, signed
from semsearch.evaluation.groups import GroupMeans
from semsearch.evaluation.html.markup import cell, esc, heading, table
from semsearch.evaluation.html.points import Point
from semsearch.evaluation.html.shapes import Drawing, Line, Mark, Role, Shape
from semsearch.evaluation.html.svg import inline_svg
from semsearch.evaluation.report import MAIN_MEASURE, TABLE_MEASURES

_WIDTH, _HEIGHT = 128, 22


def main_table(points: Sequence[Point], measure: str = MAIN_MEASURE) -> str:
    """A row for each pipeline: the main measure drawn with its whisker, then the others."""
    others = [name for name in TABLE_MEASURES if name != measure]
    several = len(points) > 1
    head = [heading("pipeline", word=True), heading(measure), _scale(points)]
    head += [heading("difference")] if several else []
    head += [heading(name) for name in others]
    best = {name: _best(points, name) for name in (measure, *others)}
    rows = []
    for point in points:
        cells = [_name(point), _value(point, measure, best), _whisker(point, points)]
        if several:
            cells.append(_difference(point))
        cells += [_value(point, name, best) for name in others]
        rows.append(_row(point, cells))
    return table(head, rows)


def all_measures_table(points: Sequence[Point]) -> str:
    """Every measure that was computed, a row each, a column for each pipeline."""
    names = list(points[0].row.metrics)
    best = {name: _best(points, name) for name in names}
    head = [heading("measure", word=True), *(heading(point.name) for point in points)]
    rows = [
        f'<tr><th scope="row" class="word">{esc(name)}</th>'
        f"{''.join(_value(point, name, best) for point in points)}</tr>"
        for name in names
    ]
    return table(head, rows)


def cost_table(points: Sequence[Point]) -> str:
    """Bytes, milliseconds and the agreement with exact search of each pipeline."""
    head = [heading("pipeline", word=True)]
    columns: list[list[str]] = []
    if any(point.size is not None for point in points):
        head.append(heading("bytes per passage"))
        columns.append([_amount(point.size) for point in points])
    if any(point.latency is not None for point in points):
        head += [heading("median, ms"), heading("p99, ms"), heading("queries timed")]
        times = [(t.p50, t.p99, t.queries) if (t := p.latency) else (None,) * 3 for p in points]
        columns.append([_amount(p50, 1) for p50, _, _ in times])
        columns.append([_amount(p99, 1) for _, p99, _ in times])
        columns.append([_amount(queries) for _, _, queries in times])
    if any(point.row.ann_recall is not None for point in points):
        head += [heading("ann recall@10"), heading("vector index", word=True)]
        columns.append([number(point.row.ann_recall) for point in points])
        columns.append([point.row.index_kind or "-" for point in points])
    if not columns:
        return ""
    rows = []
    for at, point in enumerate(points):
        cells = [
            cell(column[at], word=column is columns[-1] and point.row.mode != "run")
            for column in columns
        ]
        rows.append(_row(point, [_name(point), *cells]))
    return table(head, rows)


def group_table(groups: Sequence[GroupMeans], measure: str = MAIN_MEASURE) -> str:
    """A row for each group of queries, with the measure and its interval."""
    head = [heading("group", word=True), heading("queries"), heading(measure)]
    rows = []
    for group in groups:
        interval = _interval(group.intervals.get(measure))
        value = cell(number(group.metrics.get(measure)), below=interval)
        rows.append(
            f'<tr><th scope="row" class="word">{esc(group.value)}</th>'
            f"{cell(f'{group.queries:,}')}{value}</tr>"
        )
    return table(head, rows)


def _row(point: Point, cells: Sequence[str]) -> str:
    name = "first" if point.default else "other"
    return f'<tr class="{name}">{"".join(cells)}</tr>'


def _name(point: Point) -> str:
    return f'<th scope="row" class="word">{esc(point.name)}</th>'


def _value(point: Point, measure: str, best: dict[str, str | None]) -> str:
    text = number(point.row.metrics.get(measure))
    below = _interval(point.row.intervals.get(measure))
    return cell(text, below=below, best=text == best[measure])


def _interval(pair: tuple[float, float] | None) -> str:
    return "" if pair is None else "–".join(map(number, pair))


def _difference(point: Point) -> str:
    found = point.difference
    if found is None:
        return cell("")
    return cell(minus(found.mean), below=f"{minus(found.low)} to {minus(found.high)}")


def _best(points: Sequence[Point], measure: str) -> str | None:
    """The highest value as it is printed; None where all are alike."""
    known = {number(p.row.metrics[measure]) for p in points if measure in p.row.metrics}
    return max(known, key=float) if len(known) > 1 else None


def minus(value: float) -> str:
    """A difference with its sign, the minus as long as the plus."""
    return signed(value).replace("-", "−")


def _ends(points: Sequence[Point]) -> tuple[float, float]:
    return min(point.low for point in points), max(point.high for point in points)


def _scale(points: Sequence[Point]) -> str:
    low, high = map(number, _ends(points))
    return f'<th scope="col"><span class="scale"><span>{low}</span><span>{high}</span></span></th>'


def _whisker(point: Point, points: Sequence[Point]) -> str:
    low, high = _ends(points)
    span = max(high - low, 1e-9)

    def at(value: float) -> float:
        return 6 + (_WIDTH - 12) * (value - low) / span

    role: Role = "accent" if point.default else "ink"
    middle = _HEIGHT / 2
    shapes: list[Shape] = [Line([(0, middle), (_WIDTH, middle)], "rule")]
    shapes.append(Line([(at(point.low), middle), (at(point.high), middle)], role, 1.6))
    for end in (point.low, point.high):
        shapes.append(Line([(at(end), middle - 4), (at(end), middle + 4)], role, 1.6))
    shapes.append(Mark(at(point.value), middle, role, radius=4))
    title = f"{point.value:.3f}{bounds((point.low, point.high))}"
    return f'<td class="whisker">{inline_svg(Drawing(title, _WIDTH, _HEIGHT, shapes))}</td>'


def _amount(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
