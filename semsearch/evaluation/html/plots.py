"""Quality against cost: a point with its whisker for each row, over dimensions, bytes or time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from semsearch.evaluation.html import axes
from semsearch.evaluation.html.axes import Axis, Frame
from semsearch.evaluation.html.labels import Wish, beside, place
from semsearch.evaluation.html.points import Point, short
from semsearch.evaluation.html.shapes import (
    MARKERS,
    Drawing,
    Label,
    Line,
    Mark,
    Marker,
    Role,
    Shape,
)
from semsearch.evaluation.report import MAIN_MEASURE

_CAP = 3.0
_DODGE = 6.0


class _Look(NamedTuple):
    """How the points of one group are drawn."""

    role: Role
    marker: Marker


def against_dims(points: Sequence[Point], measure: str = MAIN_MEASURE) -> Drawing | None:
    """The measure over the width of the vectors; None when no two widths were measured.

    Rows without vectors are dashed lines across; groups stand a little beside each other.
    """
    cut = [point for point in points if point.row.dims is not None]
    if len({point.row.dims for point in cut}) < 2:
        return None
    x = axes.widths("dimensions", [point.row.dims or 0 for point in cut])
    names = dict.fromkeys(point.group for point in points)
    room = max(Label(0, 0, short(name), size=11.5, bold=True).width for name in names) + 14
    plot = _Plot(x, points, measure, right=room)
    for point in points:
        if point.row.dims is None:
            plot.across(point)
    plot.draw(cut, lambda point: float(point.row.dims or 0), dodge=_DODGE)
    return plot.drawing(f"{measure} against dimensions", beside_it=True)


def against_bytes(points: Sequence[Point], measure: str = MAIN_MEASURE) -> Drawing | None:
    """The measure over the bytes for each passage; None when they are not known."""
    known = [point for point in points if point.size]
    if len(known) < 2:
        return None
    x = axes.logarithmic("bytes per passage", [point.size or 1.0 for point in known])
    plot = _Plot(x, known, measure)
    plot.draw(known, lambda point: point.size or 1.0)
    return plot.drawing(f"{measure} against bytes per passage")


def against_latency(points: Sequence[Point], measure: str = MAIN_MEASURE) -> Drawing | None:
    """The measure over the median time of a query; None when it was not measured.

    Widths of one group take nearly the same time, so that only the first has a whisker.
    """
    known = [point for point in points if point.latency is not None]
    if len(known) < 2:
        return None

    def at(point: Point) -> float:
        return point.latency.p50 if point.latency else 1.0

    plot = _Plot(axes.logarithmic("median time of one query, ms", map(at, known)), known, measure)
    plot.draw(known, at, only_first=True)
    return plot.drawing(f"{measure} against latency")


class _Plot:
    """Points with their whiskers over one horizontal axis, lines through those of a group."""

    def __init__(
        self, x: Axis, points: Sequence[Point], measure: str, right: float = axes.RIGHT
    ) -> None:
        bounds = [bound for point in points for bound in (point.low, point.high)]
        self._frame = Frame(x, axes.linear(measure, bounds, (0.0, 1.0)), right=right)
        self._looks = _looks(points)
        self._lines: list[Shape] = []
        self._marks: list[Mark] = []
        self._groups: list[Wish] = []
        self._widths: list[Wish] = []

    def across(self, point: Point) -> None:
        """A line from side to side at the point's value."""
        look, x = self._looks[point.group], self._frame.x
        line = [self._frame.at(end, point.value) for end in (x.low, x.high)]
        self._lines.append(Line(line, look.role, 1.4, dashed=True))
        height = line[1][1]
        self._groups.append(
            Wish(line[1][0], height, height, height, short(point.group), look.role, bold=True)
        )

    def draw(
        self,
        points: Sequence[Point],
        at: Callable[[Point], float],
        *,
        dodge: float = 0.0,
        only_first: bool = False,
    ) -> None:
        """Lines, whiskers and marks; ``only_first`` leaves out the whiskers of a group's others."""
        there = [group for group in self._looks if any(p.group == group for p in points)]
        for number, group in enumerate(there):
            beside_it = dodge * (number - (len(there) - 1) / 2)
            first = next(point for point in points if point.group == group)
            mine = sorted((p for p in points if p.group == group), key=at)
            spots = [self._frame.at(at(point), point.value) for point in mine]
            spots = [(x + beside_it, y) for x, y in spots]
            look = self._looks[group]
            if len(mine) > 1:
                self._lines.append(Line(spots, look.role, 1.2))
            for point, spot in zip(mine, spots, strict=True):
                self._point(point, spot, look, named=point is first, alone=only_first)

    def drawing(self, title: str, *, beside_it: bool = False) -> Drawing:
        """All of it. Labels of groups stand at the right, else where there is room, if any."""
        frame = self._frame
        right = frame.width - frame.right
        drawn: list[Shape] = [*self._lines, *self._marks]
        if beside_it:
            labels = beside(right + 8, self._groups)
        else:
            page = (axes.LEFT, axes.TOP - 16.0, frame.width, frame.height - axes.BOTTOM - 2.0)
            labels = place([*self._groups, *self._widths], drawn, page)
        return Drawing(title, frame.width, frame.height, [*frame.shapes(), *drawn, *labels])

    def _point(
        self, point: Point, spot: tuple[float, float], look: _Look, *, named: bool, alone: bool
    ) -> None:
        x, y = spot
        (_, top), (_, bottom) = (
            self._frame.at(self._frame.x.low, bound) for bound in (point.high, point.low)
        )
        if named or not alone:
            self._lines.append(Line([(x, top), (x, bottom)], look.role))
            for end in (top, bottom):
                self._lines.append(Line([(x - _CAP, end), (x + _CAP, end)], look.role))
        else:
            top, bottom = y - 4, y + 4
        title = f"{point.name}: {point.value:.3f} [{point.low:.3f}, {point.high:.3f}]"
        self._marks.append(Mark(x, y, look.role, look.marker, 4.2, title))
        if named:
            self._groups.append(Wish(x, y, top, bottom, short(point.group), look.role, bold=True))
        elif point.row.dims is not None and not alone:
            self._widths.append(Wish(x, y, top, bottom, str(point.row.dims), "muted", size=10.5))


def _looks(points: Sequence[Point]) -> dict[str, _Look]:
    """The first row's group in the accent colour; the others told apart by their marks."""
    groups = list(dict.fromkeys(point.group for point in points))
    others = [*MARKERS[1:], MARKERS[0]]
    looks = {groups[0]: _Look("accent", "dot")}
    for number, group in enumerate(groups[1:]):
        looks[group] = _Look("ink" if number < 2 else "muted", others[number % len(others)])
    return looks
