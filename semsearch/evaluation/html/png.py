"""Drawings as PNG, by Pillow (extra ``report``): its own font, so no machine needs to have one."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from semsearch.errors import MissingExtra
from semsearch.evaluation.html.shapes import LIGHT, Drawing, Label, Line, Mark
from semsearch.evaluation.html.svg import corners

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

SCALE = 3
"""Pixels of the file for each of the drawing."""

_FINER = 2  # drawn so much larger and reduced again: Pillow's edges are hard
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}
_DASH = 4.0


def write_png(drawing: Drawing, path: Path) -> None:
    """Write the drawing in its light colours, ``SCALE`` times its size. Raises MissingExtra."""
    require_pillow()
    from PIL import Image, ImageDraw

    zoom = SCALE * _FINER
    size = drawing.width * zoom, drawing.height * zoom
    image = Image.new("RGB", size, LIGHT["paper"])
    brush = _Brush(ImageDraw.Draw(image, "RGBA"), zoom)
    for shape in drawing.shapes:
        match shape:
            case Line():
                brush.line(shape)
            case Mark():
                brush.mark(shape)
            case Label():
                brush.label(shape)
    image.reduce(_FINER).save(path, optimize=True)


def require_pillow() -> None:
    """Raise MissingExtra unless there is something to draw with."""
    if find_spec("PIL") is None:
        raise MissingExtra("pillow", "report", "drawing plots as PNG")


class _Brush:
    """Draws shapes ``zoom`` times as large as they say."""

    def __init__(self, draw: ImageDraw, zoom: int) -> None:
        self._draw = draw
        self._zoom = zoom

    def line(self, line: Line) -> None:
        pieces = list(zip(line.points, line.points[1:], strict=False))
        if line.dashed:
            pieces = [dash for start, end in pieces for dash in _dashes(start, end)]
        for piece in pieces:
            points = [(x * self._zoom, y * self._zoom) for x, y in piece]
            width = max(round(line.width * self._zoom), 1)
            self._draw.line(points, fill=LIGHT[line.role], width=width)

    def mark(self, mark: Mark) -> None:
        colour = LIGHT[mark.role]
        inside = colour + f"{round(255 * mark.opacity):02x}"
        x, y, r = mark.x * self._zoom, mark.y * self._zoom, mark.radius * self._zoom
        if mark.marker == "ring":
            width = round(1.6 * self._zoom)
            self._draw.circle((x, y), r, fill=LIGHT["paper"], outline=colour, width=width)
        elif mark.marker == "dot":
            self._draw.circle((x, y), r, fill=inside, outline=colour, width=self._zoom)
        else:
            points = [(px * self._zoom, py * self._zoom) for px, py in corners(mark)]
            self._draw.polygon(points, fill=inside, outline=colour)

    def label(self, label: Label) -> None:
        from PIL import ImageFont

        font = ImageFont.load_default(label.size * self._zoom)
        # Pillow's font knows the letters of English only.
        text = label.text.encode("ascii", "replace").decode("ascii")
        self._draw.text(
            (label.x * self._zoom, label.y * self._zoom),
            text,
            fill=LIGHT[label.role],
            font=font,
            anchor=_ANCHORS[label.anchor],
            stroke_width=round(0.15 * self._zoom) if label.bold else 0,
        )


def _dashes(
    start: tuple[float, float], end: tuple[float, float]
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    (x1, y1), (x2, y2) = start, end
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    steps = max(int(length / _DASH), 1)

    def at(step: int) -> tuple[float, float]:
        share = min(step / steps, 1.0)
        return x1 + share * (x2 - x1), y1 + share * (y2 - y1)

    return [(at(step), at(step + 1)) for step in range(0, steps, 2)]
