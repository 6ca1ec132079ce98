"""The pictures of results: ``python -m benchmarks.plot``, with matplotlib.

How costs grow: four small charts of the newest result of ``growth``, both axes logarithmic. What
the bytes of a token buy: one curve for each set of the newest result of ``late_interaction``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.results import RESULTS, newest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PATH = RESULTS / "growth.png"
CURVE = RESULTS / "late_interaction.png"
_CHARTS: dict[str, tuple[str, ...]] = {
    "indexing, seconds": ("seconds", "processor seconds"),
    "indexing, peak memory, MiB": ("peak MiB", "before the vector index"),
    "index on disk, MiB": ("disk MiB",),
    "query, ms": ("query p50 ms", "p99 ms"),
}
_LINEAR = ("seconds", "disk MiB")
_COLOURS = ("#1f5fa8", "#c8641e", "#3c7a3c")
_NO_SETS = ("kept", "bytes a token", "mean", "difference", "95 % interval")


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the rows of the benchmark ``growth`` as a PNG. Raises ImportError without matplotlib.

    The figure is made without ``pyplot``: no window system, no state.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.4), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    sizes = [row["documents"] for row in rows]
    for axes, (title, columns) in zip(figure.subplots(2, 2).flat, _CHARTS.items(), strict=True):
        for column, colour in zip(columns, _COLOURS, strict=False):
            values = [row[column] for row in rows]
            axes.plot(sizes, values, "o-", color=colour, label=column, linewidth=1.8, markersize=5)
        if columns[0] in _LINEAR:
            line = [rows[-1][columns[0]] * size / sizes[-1] for size in sizes]
            axes.plot(sizes, line, ":", color="#808080", label="in proportion", linewidth=1.4)
        _dress(axes, title)
    figure.savefig(path, metadata={"Software": None})  # the same rows give the same file


def _dress(axes: Axes, title: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel("documents", fontsize=9)
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.8)
    axes.grid(visible=True, which="minor", axis="y", color="#f0f0f0", linewidth=0.5)
    axes.set_axisbelow(True)
    low, high = (math.log10(limit) for limit in axes.get_ylim())
    axes.set_ylim(10 ** math.floor(low), 10 ** math.ceil(high))  # less would make flat look steep
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axis.set_minor_formatter(lambda *_: "")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=9, frameon=False)


def draw_curve(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the rows of the benchmark ``late_interaction`` as a PNG: gain over no reranking.

    The best of several ways to spend the same bytes is on the line, the others are points. Raises
    ImportError without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.4), dpi=100, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    none, *kept = sorted(rows, key=lambda row: row["bytes a token"])
    sets = [name for name in rows[0] if name not in _NO_SETS]
    for name, colour in zip(sets, _COLOURS, strict=False):
        best: dict[float, float] = {}
        for row in kept:
            size, gain = row["bytes a token"], row[name] - none[name]
            best[size] = max(gain, best.get(size, gain))
            axes.plot(size, gain, "o", color=colour, markersize=5)
        axes.plot([*best], [*best.values()], color=colour, label=name, linewidth=1.8)
    axes.axhline(0, color="#808080", linestyle=":", linewidth=1.4, label="no reranking")
    axes.set_xscale("log", base=2)
    axes.set_title("nDCG@10 gained by reranking", loc="left", fontsize=11)
    axes.set_xlabel("bytes a token", fontsize=9)
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xticks(sorted({row["bytes a token"] for row in kept}))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=9, frameon=False)
    figure.savefig(path, metadata={"Software": None})


PICTURES = {"growth": (draw, PATH), "late_interaction": (draw_curve, CURVE)}
"""How a benchmark's rows are drawn, and where to."""


def main() -> None:
    """Draw the newest results, where there are some."""
    for name, (drawn, path) in PICTURES.items():
        record = newest(name)
        if record is not None:
            drawn(record["rows"], path)


if __name__ == "__main__":
    main()
