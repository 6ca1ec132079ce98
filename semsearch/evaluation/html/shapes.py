"""What a plot is made of: a few shapes whose colours are roles, so that light and dark both fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["ink", "muted", "rule", "accent", "paper"]
"""Text and axes, secondary text, grid lines, the one that matters, the background."""

LIGHT: dict[Role, str] = {
    "ink": "#1f2328",
    "muted": "#66707a",
    "rule": "#dfe3e8",
    "accent": "#0b62c4",
    "paper": "#ffffff",
}
DARK: dict[Role, str] = {
    "ink": "#e4e7eb",
    "muted": "#98a2ad",
    "rule": "#343a42",
    "accent": "#6cb2ff",
    "paper": "#15181c",
}

Marker: TypeAlias = Literal["dot", "ring", "square", "diamond"]
MARKERS: tuple[Marker, ...] = ("dot", "ring", "square", "diamond")


@dataclass(frozen=True, slots=True)
class Line:
    """Straight pieces through ``points``, in pixels from the upper left corner."""

    points: Sequence[tuple[float, float]]
    role: Role = "ink"
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A data point; ``title`` is what a pointer over it tells. ``opacity`` of the inside."""

    x: float
    y: float
    role: Role = "ink"
    marker: Marker = "dot"
    radius: float = 4.0
    title: str = ""
    opacity: float = 1.0


@dataclass(frozen=True, slots=True)
class Label:
    """One line of text; ``x`` is its start, middle or end (``anchor``), ``y`` its baseline."""

    x: float
    y: float
    text: str
    role: Role = "ink"
    anchor: Literal["start", "middle", "end"] = "start"
    size: float = 12.0
    bold: bool = False

    @property
    def width(self) -> float:
        """About its width in pixels: fonts differ."""
        return len(self.text) * self.size * (0.62 if self.bold else 0.57)


Shape: TypeAlias = Line | Mark | Label


@dataclass(frozen=True, slots=True)
class Drawing:
    """Shapes on a page of ``width`` x ``height`` pixels, later ones over earlier ones.

    ``title`` says in a few words what is shown, to those who do not see it too.
    """

    title: str
    width: int
    height: int
    shapes: Sequence[Shape] = field(default_factory=list)
