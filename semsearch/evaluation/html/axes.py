"""Axes: round ticks, linear or logarithmic, and a frame that turns values into pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from semsearch.evaluation.html.shapes import Label, Line, Shape

WIDTH, HEIGHT = 440, 320
LEFT, RIGHT, TOP, BOTTOM = 44, 18, 34, 44

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_TICK_SIZE, _TITLE_SIZE = 11.5, 12.0


@dataclass(frozen=True, slots=True)
class Axis:
    """From ``low`` to ``high``; ``ticks`` are values with their texts; ``title`` has the unit."""

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies: 0 at ``low``, 1 at ``high``."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def linear(title: str, values: Iterable[float], limits: tuple[float, float]) -> Axis:
    """A linear axis around the values, inside ``limits``, from round number to round number."""
    known = list(values)
    low, high = min(known, default=limits[0]), max(known, default=limits[1])
    step = _round_step(max(high - low, 0.1 * (limits[1] - limits[0])) / 4)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last += first == last
    # Binary fractions of a step: round before comparing with the limits.
    marks = [round(step * number, 9) for number in range(first, last + 1)]
    marks = [mark for mark in marks if limits[0] <= mark <= limits[1]]
    digits = _digits(marks)
    return Axis(title, marks[0], marks[-1], [(mark, f"{mark:.{digits}f}") for mark in marks])


def logarithmic(title: str, values: Iterable[float]) -> Axis:
    """A logarithmic axis around positive values; its ticks are 1, 2 and 5 times powers of 10."""
    known = sorted(values) or [1.0, 10.0]
    low, high = known[0] / 1.25, known[-1] * 1.25
    if high / low < 4.0:
        middle = math.sqrt(low * high)
        low, high = middle / 2.0, middle * 2.0
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high / low < 500 else (1,)
    marks = [factor * 10.0**power for power in powers for factor in factors]
    ticks = [(mark, f"{mark:,.10g}") for mark in marks if low <= mark <= high]
    return Axis(title, low, high, ticks, log=True)


def widths(title: str, dims: Iterable[int]) -> Axis:
    """An axis of vector widths: logarithmic, a tick at each of them that has room."""
    known = sorted(set(dims))
    low, high = known[0] / 1.15, known[-1] * 1.15
    if len(known) == 1:
        low, high = known[0] / 2.0, known[0] * 2.0
    kept: list[int] = []
    for width in reversed(known):  # the full width always has its tick
        if not kept or math.log(kept[-1] / width) / math.log(high / low) > 0.09:
            kept.append(width)
    return Axis(title, low, high, [(float(width), f"{width}") for width in kept], log=True)


@dataclass(frozen=True, slots=True)
class Frame:
    """Two axes on a page, with room for labels at the ``right`` and the ``top``."""

    x: Axis
    y: Axis
    width: int = WIDTH
    height: int = HEIGHT
    right: float = RIGHT
    top: float = TOP

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The pixel of a point."""
        across = self.width - LEFT - self.right
        down = self.height - self.top - BOTTOM
        return LEFT + across * self.x.share(x), self.top + down * (1.0 - self.y.share(y))

    def shapes(self) -> list[Shape]:
        """Grid lines, ticks and the titles: the vertical one lies above its axis, to be read."""
        left, bottom = LEFT, self.height - BOTTOM
        right = self.width - self.right
        found: list[Shape] = []
        for value, text in self.y.ticks:
            _, y = self.at(self.x.low, value)
            found.append(Line([(left, y), (right, y)], "rule"))
            found.append(Label(left - 8, y + 4, text, "muted", "end", _TICK_SIZE))
        found.append(Line([(left, bottom), (right, bottom)], "muted"))
        for value, text in self.x.ticks:
            x, _ = self.at(value, self.y.low)
            found.append(Line([(x, bottom), (x, bottom + 4)], "muted"))
            found.append(Label(x, bottom + 17, text, "muted", "middle", _TICK_SIZE))
        found.append(Label(4, 16, self.y.title, "ink", "start", _TITLE_SIZE))
        found.append(Label(right, self.height - 6, self.x.title, "ink", "end", _TITLE_SIZE))
        return found


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return min(factor * power for factor in _STEPS if factor * power >= rough * (1 - 1e-9))


def _digits(marks: Sequence[float]) -> int:
    """The fewest decimals that show every mark as it is."""
    return next(d for d in range(10) if all(abs(round(m, d) - m) < 1e-9 for m in marks))
