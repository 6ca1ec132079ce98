"""Putting labels beside marks so that they cover neither marks, nor lines, nor one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

from semsearch.evaluation.html.shapes import Label, Line, Mark, Role, Shape

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom."""

_Anchor: TypeAlias = Literal["start", "middle", "end"]
_STEP = 3.0
_APART = 14.5


class Wish(NamedTuple):
    """A text that should stand near a point, or above ``top`` or below ``bottom`` of its whisker.

    Wishes that come first get their place first.
    """

    x: float
    y: float
    top: float
    bottom: float
    text: str
    role: Role
    bold: bool = False
    size: float = 11.5


def place(wishes: Sequence[Wish], drawn: Sequence[Shape], page: Box) -> list[Label]:
    """A label for each wish that has room on ``page`` beside what is drawn; the others get none."""
    boxes = [box for shape in drawn for box in _boxes(shape)]
    labels = []
    for wish in wishes:
        for label in _tries(wish):
            box = _box(label)
            if _inside(box, page) and not any(_overlap(box, other) for other in boxes):
                boxes.append(box)
                labels.append(label)
                break
    return labels


def beside(x: float, wishes: Sequence[Wish]) -> list[Label]:
    """Labels in a column that starts at ``x``, in the order of height, kept apart."""
    ordered = sorted(wishes, key=lambda wish: wish.y)
    heights = [wish.y for wish in ordered]
    for at in range(1, len(heights)):
        heights[at] = max(heights[at], heights[at - 1] + _APART)
    # What was pushed down is moved up by half, so that a crowd stays around its middle.
    shift = (sum(heights) - sum(wish.y for wish in ordered)) / max(len(heights), 1)
    return [
        Label(x, y - shift + wish.size * 0.36, wish.text, wish.role, "start", wish.size, wish.bold)
        for wish, y in zip(ordered, heights, strict=True)
    ]


def _tries(wish: Wish) -> list[Label]:
    high = wish.size * 0.36
    sides: list[tuple[float, float, _Anchor]] = [
        (8, wish.y + high, "start"),
        (-8, wish.y + high, "end"),
        (0, wish.top - 5, "middle"),
        (0, wish.bottom + 4 + 2 * high, "middle"),
        (5, wish.top + high, "start"),
        (5, wish.bottom + high, "start"),
        (-5, wish.top + high, "end"),
        (-5, wish.bottom + high, "end"),
        (0, wish.top - 18, "middle"),
        (0, wish.bottom + 17 + 2 * high, "middle"),
        (6, wish.top - 5, "end"),
        (6, wish.bottom + 4 + 2 * high, "end"),
    ]
    return [
        Label(wish.x + dx, y, wish.text, wish.role, anchor, wish.size, wish.bold)
        for dx, y, anchor in sides
    ]


def _box(label: Label) -> Box:
    before = {"start": 0.0, "middle": 0.5, "end": 1.0}[label.anchor] * label.width
    left = label.x - before
    return left - 2, label.y - 0.8 * label.size, left + label.width + 2, label.y + 0.2 * label.size


def _boxes(shape: Shape) -> Iterator[Box]:
    match shape:
        case Mark():
            r = shape.radius + 1
            yield shape.x - r, shape.y - r, shape.x + r, shape.y + r
        case Label():
            yield _box(shape)
        case Line():
            for start, end in zip(shape.points, shape.points[1:], strict=False):
                yield from _along(start, end)


def _along(start: tuple[float, float], end: tuple[float, float]) -> Iterator[Box]:
    """Small boxes that follow a line."""
    (x1, y1), (x2, y2) = start, end
    steps = int(max(abs(x2 - x1), abs(y2 - y1)) / _STEP) + 1
    for step in range(steps + 1):
        x, y = x1 + (x2 - x1) * step / steps, y1 + (y2 - y1) * step / steps
        yield x - 1, y - 1, x + 1, y + 1


def _inside(box: Box, page: Box) -> bool:
    return box[0] >= page[0] and box[1] >= page[1] and box[2] <= page[2] and box[3] <= page[3]


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
