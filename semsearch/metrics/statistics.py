"""How sure a mean is, and whether two runs differ: bootstrap and randomisation, seeded.

Sources: Efron (1979) for the percentile bootstrap; Smucker, Allan and Carterette (CIKM 2007) for
the paired randomisation test of retrieval runs; Holm (1979) for the correction over several tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from semsearch.errors import UsageError
from semsearch.metrics.formulas import Floats

_BLOCK_CELLS = 1_000_000


class PairedTest(NamedTuple):
    """How run ``a`` differs from run ``b`` over the same queries."""

    difference: float
    """Mean of ``a`` minus mean of ``b``."""
    low: float
    high: float
    """Bootstrap interval of the difference."""
    p: float
    """Two-sided: how often chance alone would give a difference at least as large."""


def bootstrap_interval(
    values: ArrayLike, resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of ``values`` ``(n,)``, low and high.

    The same seed gives the same interval. Memory is bounded; time is ``n * resamples``.

    Raises:
        UsageError: no values, a value that is not finite, or settings out of range.
    """
    [interval] = bootstrap_intervals(_column(values), resamples, seed, level)
    return interval


def bootstrap_intervals(
    values: Floats, resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> list[tuple[float, float]]:
    """Intervals of the means of the columns of ``values`` ``(n, m)``, one resample for them all.

    Each is what ``bootstrap_interval`` gives for that column. Raises as it does.
    """
    _check(values, resamples, level)
    n = len(values)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    for start, stop in _blocks(resamples, n):
        rows = stop - start
        drawn = rng.integers(0, n, size=(rows, n), dtype=np.int32)
        drawn += np.arange(rows, dtype=np.int32)[:, np.newaxis] * np.int32(n)
        times = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        means[start:stop] = times.astype(np.float64) @ values / n
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, (tail, 1.0 - tail), axis=0).tolist()
    return list(zip(low, high, strict=True))


def paired_test(
    a: ArrayLike, b: ArrayLike, resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> PairedTest:
    """Compare two runs by their values for the same queries in the same order, both ``(n,)``.

    Under the null hypothesis each query's two values could as well be exchanged. Where
    ``resamples`` allows it all exchanges are tried and ``p`` is exact; else they are drawn, and the
    observed one counts as one of them, so that ``p`` is never 0.

    Raises:
        UsageError: as ``bootstrap_interval``, or lengths that differ.
    """
    left, right = _column(a), _column(b)
    if len(left) != len(right):
        raise UsageError(
            f"a paired test needs the same queries on both sides: {len(left)} and {len(right)}"
        )
    differences = left - right
    low, high = bootstrap_interval(differences[:, 0], resamples, seed, level)
    p = _randomisation_p(differences[:, 0], resamples, seed)
    return PairedTest(float(differences.mean()), low, high, p)


def holm(ps: Sequence[float]) -> list[float]:
    """Correct the p of several tests that are looked at together, in the order given.

    The chance that any true null hypothesis has a corrected p below a level is at most that level,
    however the tests depend on each other (step-down, Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [1.0] * len(ps)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = highest
    return corrected


def _randomisation_p(differences: Floats, resamples: int, seed: int) -> float:
    moving = differences[differences != 0.0]  # exchanging equal values changes nothing
    n = len(moving)
    # Sums that are equal by hand may differ in their last bits: count those as equal.
    enough = abs(moving.sum()) - 1e-12 * np.abs(moving).sum()
    exact = 2**n <= resamples
    total = 2**n if exact else resamples
    rng = np.random.default_rng(seed)
    reached = 0
    for start, stop in _blocks(total, max(n, 1)):
        if exact:
            exchanged = (np.arange(start, stop)[:, np.newaxis] >> np.arange(n) & 1).astype(float)
        else:
            octets = rng.integers(0, 256, size=(stop - start, -(-n // 8)), dtype=np.uint8)
            exchanged = np.unpackbits(octets, axis=1, count=n).astype(float)
        sums = moving.sum() - 2.0 * (exchanged @ moving)
        reached += int(np.count_nonzero(np.abs(sums) >= enough))
    return reached / total if exact else (reached + 1) / (total + 1)


def _blocks(rows: int, width: int) -> Iterator[tuple[int, int]]:
    size = max(1, _BLOCK_CELLS // width)
    for start in range(0, rows, size):
        yield start, min(start + size, rows)


def _column(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64).reshape(-1, 1)


def _check(values: Floats, resamples: int, level: float) -> None:
    if not len(values):
        raise UsageError("no values: an interval needs at least one query")
    if not np.isfinite(values).all():
        raise UsageError("an interval needs finite values")
    if resamples < 1:
        raise UsageError(f"resamples must be 1 or more, not {resamples}")
    if not 0.0 < level < 1.0:
        raise UsageError(f"the level must lie between 0 and 1, as in 0.95, not {level}")
