"""Which plots a report has, what is written below them, and their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from semsearch import fs
from semsearch.evaluation.html.plots import against_bytes, against_dims, against_latency
from semsearch.evaluation.html.png import require_pillow, write_png
from semsearch.evaluation.html.points import Point, best_of_groups
from semsearch.evaluation.html.scatter import query_by_query
from semsearch.evaluation.html.shapes import Drawing
from semsearch.evaluation.html.svg import svg_file
from semsearch.evaluation.report import MAIN_MEASURE


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with its file's name; ``square`` ones compare two rows query by query."""

    name: str
    drawing: Drawing
    caption: str
    square: bool = False


def all_plots(points: Sequence[Point], measure: str = MAIN_MEASURE) -> list[Plot]:
    """The plots that these rows give: those are left out for which nothing was measured.

    ``measure`` is the one whose values the points hold.
    """
    drawn = [
        (
            "dimensions",
            against_dims(points, measure),
            "Quality against the width of the vectors. Whiskers are 95 % intervals.",
        ),
        (
            "bytes",
            against_bytes(points, measure),
            "Quality against what each passage takes in the index. Small numbers are dimensions.",
        ),
        (
            "latency",
            against_latency(points, measure),
            "Quality against the median time of single queries, from text to hits.",
        ),
    ]
    found = [Plot(name, drawing, caption) for name, drawing, caption in drawn if drawing]
    for number, (across, up) in enumerate(_pairs(points), start=1):
        drawing = query_by_query(across, up, measure)
        if drawing is not None:
            caption = (
                f"{up.name} against {across.name}: above the line the former is better. The area of"
                " a mark is its number of queries."
            )
            found.append(Plot(f"queries-{number}", drawing, caption, square=True))
    return found


def write_plots(plots: Sequence[Plot], folder: str | Path) -> list[Path]:
    """Write each plot as SVG and as PNG into ``folder``; returns the files.

    Raises StorageError; MissingExtra without Pillow, before anything is written.
    """
    require_pillow()
    folder = Path(folder)
    written = []
    with fs.storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for plot in plots:
            svg, png = folder / f"{plot.name}.svg", folder / f"{plot.name}.png"
            svg.write_text(svg_file(plot.drawing), encoding="utf-8")
            write_png(plot.drawing, png)
            written += [svg, png]
    return written


def _pairs(points: Sequence[Point]) -> list[tuple[Point, Point]]:
    """The first row and the best of the others; dense and lexical search."""
    ranked = best_of_groups(points)
    pairs = [(ranked[1], points[0])] if len(ranked) > 1 else []
    by_group = {point.group: point for point in reversed(points)}
    if "dense" in by_group and "lexical" in by_group:
        parts = by_group["lexical"], by_group["dense"]
        if not any(set(map(id, parts)) == set(map(id, pair)) for pair in pairs):
            pairs.append(parts)
    return pairs
