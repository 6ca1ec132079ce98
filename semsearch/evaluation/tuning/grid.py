"""The settings that tuning tries: around the default, coarse enough to score them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TypeAlias

from semsearch.ranking.settings import DEFAULT_RANKING, FUSIONS, Ranking

SELF = "self"
NONE = "none"

DEPTHS = (100, 200)
RERANK_DEPTHS = (20, 50, 100)
_TENTHS = tuple(step / 10 for step in range(11))

Grid: TypeAlias = Mapping[Ranking, Sequence[Ranking]]
"""First rankings (without a reranker), each with the settings that begin with it."""


def make_grid(rerankers: Sequence[str] = ()) -> Grid:
    """Every fusion, weight and depth, each alone and with every depth and weight of ``self``.

    ``rerankers`` name cross-encoders: so dear that they read only the default's best candidates.
    A depth below 100 is not tried: measures look that deep.
    """
    grid: dict[Ranking, list[Ranking]] = {}
    for depth in DEPTHS:
        for fusion in FUSIONS:
            for weight in _TENTHS:
                first = replace(
                    DEFAULT_RANKING, rerank=NONE, fusion=fusion, dense_weight=weight, depth=depth
                )
                grid[first] = [first, *_reranked(first, SELF, RERANK_DEPTHS)]
    default_first = replace(DEFAULT_RANKING, rerank=NONE)
    for name in rerankers:
        depths = [d for d in RERANK_DEPTHS if d <= DEFAULT_RANKING.rerank_depth]
        grid[default_first] += _reranked(default_first, name, depths)
    return grid


def settings_of(grid: Grid) -> list[Ranking]:
    """All settings, in the order of the grid."""
    return [setting for settings in grid.values() for setting in settings]


def changes(setting: Ranking) -> dict[str, str | float]:
    """What a setting changes of the default, by name."""
    usual = asdict(DEFAULT_RANKING)
    return {name: value for name, value in asdict(setting).items() if value != usual[name]}


def _reranked(first: Ranking, name: str, depths: Sequence[int]) -> list[Ranking]:
    return [
        replace(first, rerank=name, rerank_depth=depth, rerank_weight=weight)
        for depth in depths
        for weight in _TENTHS[1:]
    ]
