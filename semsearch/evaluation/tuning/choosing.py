"""Choosing a setting from the values of all, and what the choice gains on queries it never saw."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semsearch.metrics import PairedTest, bootstrap_interval

if TYPE_CHECKING:
    from semsearch.types import Ints


@dataclass(frozen=True, slots=True)
class Fold:
    """One part of the queries: what the others chose, and what that is worth on both.

    ``setting`` is a number of a setting. The means are of the other queries (``learned``) and of
    the part's own (``held_out``), each with the default's beside it.
    """

    setting: int
    queries: int
    learned: float
    learned_default: float
    held_out: float
    held_out_default: float


@dataclass(frozen=True, slots=True)
class Validated:
    """What cross-validation found.

    ``held_out`` float64 (Q,) is each query's value under the setting that the other folds chose;
    ``gain`` compares it with the default's (see ``held_out_gain``). ``chosen`` is the setting that
    all queries choose.
    """

    folds: tuple[Fold, ...]
    chosen: int
    held_out: NDArray[np.float64]
    gain: PairedTest


def validate(
    values: NDArray[np.float64], default: int, costs: Sequence[int], folds: Ints, seed: int = 0
) -> Validated:
    """Choose on all folds but one, measure on that one; for each fold, then choose on all.

    ``values`` float64 (settings, Q); ``default`` is the default's row; ``costs`` and the rule are
    those of ``choose``; ``folds`` int64 (Q,) says which fold a query is in.
    """
    held_out = np.empty(values.shape[1])
    found = []
    for number in np.unique(folds).tolist():
        out = folds == number
        setting = choose(values[:, ~out], default, costs)
        held_out[out] = values[setting, out]
        means = [
            float(values[row][part].mean()) for part in (~out, out) for row in (setting, default)
        ]
        found.append(Fold(setting, int(out.sum()), *means))
    gain = held_out_gain(held_out, values[default], len(found), seed)
    return Validated(tuple(found), choose(values, default, costs), held_out, gain)


def held_out_gain(
    held_out: NDArray[np.float64], default: NDArray[np.float64], folds: int, seed: int = 0
) -> PairedTest:
    """The mean of ``held_out`` minus that of ``default``, both (Q,), with its 95 % interval and p.

    The bootstrap interval is widened by sqrt(1 + K / (K - 1)) for K folds, 1.5 for five: what two
    folds chose was learned from mostly the same queries, so their values are not independent
    (Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52, 2003). On
    noise, choosing among 80 settings by 60 queries, a gain is claimed 1 % of the time; unwidened 8
    %. ``p`` is two-sided and normal, of the same width.
    """
    wider = sqrt(1 + folds / (folds - 1))
    difference = held_out - default
    mean = float(difference.mean())
    low, high = (
        mean + wider * (bound - mean) for bound in bootstrap_interval(difference, seed=seed)
    )
    error = wider * float(difference.std(ddof=1)) / sqrt(len(difference))
    p = erfc(abs(mean) / error / sqrt(2)) if error > 0 else float(mean == 0)
    return PairedTest(mean, low, high, p)


def choose(values: NDArray[np.float64], default: int, costs: Sequence[int]) -> int:
    """The row of ``values`` (settings, n) to use: the plainest of those as good as the best.

    As good means within one standard error of the difference to the best mean, query by query (the
    one-standard-error rule of Breiman et al., Classification and Regression Trees, 1984). The
    plainest has the lowest cost, the default none; of equally plain ones the best mean wins.
    """
    best = values[int(values.mean(axis=1).argmax())]
    behind = best - values
    error = behind.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
    good = np.flatnonzero(behind.mean(axis=1) <= error)
    if default in good:
        return default
    means = values.mean(axis=1)
    return int(min(good.tolist(), key=lambda row: (costs[row], -means[row], row)))


def make_folds(groups: Sequence[Hashable], folds: int, seed: int) -> Ints:
    """Which fold each query is in, int64 (Q,): drawn at random, those of one group together.

    Folds are as even as the groups allow.
    """
    members: dict[Hashable, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    together = list(members.values())
    sizes = [0] * folds
    found = np.zeros(len(groups), np.int64)
    for place in np.random.default_rng(seed).permutation(len(together)).tolist():
        fold = sizes.index(min(sizes))
        found[together[place]] = fold
        sizes[fold] += len(together[place])
    return found
