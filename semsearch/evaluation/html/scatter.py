"""Two rows of a report against each other, query by query."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from semsearch.evaluation.html import axes
from semsearch.evaluation.html.axes import Axis, Frame
from semsearch.evaluation.html.points import Point, short
from semsearch.evaluation.html.shapes import Drawing, Label, Line, Mark, Role
from semsearch.evaluation.report import MAIN_MEASURE

_LARGEST, _SMALLEST = 15.0, 2.5
_TOP, _ROOM = 50, 44
_FEW = 20
"""Where no spot has more queries than this, the marks are not drawn as large as they could be."""


def query_by_query(across: Point, up: Point, measure: str = MAIN_MEASURE) -> Drawing | None:
    """Each query's value in one row against that in another; None without values per query.

    The area of a mark is the number of queries that fall on it, values to two decimals.
    """
    a, b = across.row.evaluation, up.row.evaluation
    if a is None or b is None or a.query_ids != b.query_ids:
        return None
    pairs = np.stack([a.per_query(measure), b.per_query(measure)], axis=1)
    spots, counts = np.unique(pairs.round(2), axis=0, return_counts=True)
    frame = _frame(short(across.name, _ROOM), short(up.name, _ROOM), measure)
    shapes = [*frame.shapes(), Line([frame.at(0, 0), frame.at(1, 1)], "muted", dashed=True)]
    most = max(int(counts.max()), _FEW)
    for place in np.argsort(-counts, kind="stable").tolist():  # small ones over large ones
        (x, y), count = spots[place].tolist(), int(counts[place])
        role: Role = "muted" if x == y else "accent" if y > x else "ink"
        radius = max(_SMALLEST, _LARGEST * (count / most) ** 0.5)
        queries = "1 query" if count == 1 else f"{count} queries"
        title = f"{queries}: {across.name} {x:.2f}, {up.name} {y:.2f}"
        shapes.append(Mark(*frame.at(x, y), role, "dot", radius, title, 0.35))
    shapes.append(Label(4, 33, _counts(pairs), "muted", "start", 11.5))
    title = f"{up.name} against {across.name}, query by query"
    return Drawing(title, frame.width, frame.height, shapes)


def _frame(across: str, up: str, measure: str) -> Frame:
    ticks = [(n / 4, f"{n / 4:g}") for n in range(5)]
    limits = -0.06, 1.06
    return Frame(
        Axis(f"{measure}, {across}", *limits, ticks),
        Axis(f"{measure}, {up}", *limits, ticks),
        height=axes.WIDTH - axes.LEFT - axes.RIGHT + _TOP + axes.BOTTOM,
        top=_TOP,
    )


def _counts(pairs: NDArray[np.float64]) -> str:
    better = int((pairs[:, 1] > pairs[:, 0]).sum())
    worse = int((pairs[:, 1] < pairs[:, 0]).sum())
    equal = len(pairs) - better - worse
    return (
        f"of {len(pairs):,} queries better for {better:,}, worse for {worse:,}, equal for {equal:,}"
    )
