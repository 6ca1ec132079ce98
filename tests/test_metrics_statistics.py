"""Bootstrap and randomisation against brute force and known cases."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest

from semsearch.errors import UsageError
from semsearch.metrics import (
    bootstrap_interval,
    bootstrap_intervals,
    holm,
    paired_test,
    statistics,
)


def p_by_hand(a, b):
    """Every one of the 2 ** n exchanges."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    observed = abs(math.fsum(differences)) - 1e-9
    signs = list(itertools.product((1, -1), repeat=len(differences)))
    sums = [abs(math.fsum(map(math.prod, zip(row, differences, strict=True)))) for row in signs]
    return sum(total >= observed for total in sums) / len(signs)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_the_interval_equals_all_resamples_tried_one_by_one(level):
    values = [0.1, 0.15, 0.4, 0.75, 0.85, 1.0]
    means = [math.fsum(drawn) / 6 for drawn in itertools.product(values, repeat=6)]
    expected = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    found = bootstrap_interval(values, resamples=40_000, level=level)
    assert found == pytest.approx(expected.tolist(), abs=0.01)


def test_the_interval_of_a_share_is_near_the_normal_one():
    low, high = bootstrap_interval([0.0, 1.0] * 200)
    half = 1.96 * math.sqrt(0.25 / 400)
    assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.004)


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(7)
    samples = rng.normal(3.0, 2.0, size=(60, 300))  # 300 data sets of 60 queries, true mean 3
    covered = [low <= 3.0 <= high for low, high in bootstrap_intervals(samples, 1_000, level=0.9)]
    assert 0.85 <= np.mean(covered) <= 0.95


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(3).random(50)
    assert bootstrap_interval(values, seed=5) == bootstrap_interval(values, seed=5)
    assert bootstrap_interval(values, seed=5) != bootstrap_interval(values, seed=6)


def test_a_constant_has_no_width():
    assert bootstrap_interval([0.25] * 9) == (0.25, 0.25)
    assert bootstrap_interval([0.5]) == (0.5, 0.5)


def test_columns_are_what_each_would_be_alone():
    values = np.random.default_rng(4).random((30, 3))
    alone = [bootstrap_interval(column, resamples=500) for column in values.T]
    np.testing.assert_allclose(bootstrap_intervals(values, resamples=500), alone, rtol=1e-12)


def test_blocks_change_nothing(monkeypatch):
    rng = np.random.default_rng(8)
    a, b = rng.random((2, 37))
    whole = bootstrap_interval(a, resamples=300), paired_test(a, b, resamples=300)
    monkeypatch.setattr(statistics, "_BLOCK_CELLS", 37 * 7)
    assert bootstrap_interval(a, resamples=300) == pytest.approx(whole[0], rel=1e-12)
    assert paired_test(a, b, resamples=300)[:3] == pytest.approx(whole[1][:3], rel=1e-12)
    assert paired_test(a, b, resamples=300).p == pytest.approx(whole[1].p, abs=0.1)


def test_memory_is_bounded():
    values = np.random.default_rng(0).random(20_000)
    tracemalloc.start()
    try:
        paired_test(values, values[::-1], resamples=1_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 80e6  # all at once would be 160 MB for one array of floats


def test_five_wins_out_of_five():
    found = paired_test([1.0] * 5, [0.0] * 5)
    assert found == (1.0, 1.0, 1.0, 2 / 2**5)


def test_equal_runs_do_not_differ():
    found = paired_test([0.3, 0.7, 0.1], [0.3, 0.7, 0.1])
    assert found == (0.0, 0.0, 0.0, 1.0)


def test_wins_that_cancel_do_not_differ():
    found = paired_test([0.3, 0.1, 0.2, 0.9], [0.1, 0.3, 0.9, 0.2])
    assert found.difference == pytest.approx(0.0, abs=1e-15)
    assert found.p == 1.0
    assert found.low < 0.0 < found.high


@pytest.mark.parametrize("seed", range(5))
def test_small_runs_get_the_exact_p(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 4, size=(2, 9)) / 3  # thirds: many sums are tied but for their last bits
    assert paired_test(a, b).p == pytest.approx(p_by_hand(a.tolist(), b.tolist()))


@pytest.mark.parametrize("seed", range(5))
def test_drawn_exchanges_come_near_the_exact_p(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, 13)) + [[0.15], [0.0]]
    exact, drawn = paired_test(a, b, resamples=2**13), paired_test(a, b, resamples=2**13 - 1)
    assert exact.p != drawn.p
    assert drawn.p == pytest.approx(exact.p, abs=0.02)


def test_many_queries_are_near_the_normal_p():
    rng = np.random.default_rng(11)
    b = rng.random(2_000)
    a = b + rng.normal(0.004, 0.1, 2_000)
    found = paired_test(a, b, resamples=4_000)
    z = (a - b).mean() / math.sqrt(((a - b) ** 2).mean() / 2_000)
    assert found.p == pytest.approx(math.erfc(abs(z) / math.sqrt(2)), abs=0.03)
    assert found.difference == pytest.approx((a - b).mean())
    assert (found.low, found.high) == bootstrap_interval(a - b, resamples=4_000)


def test_exchanging_the_runs_turns_the_sign_only():
    a, b = np.random.default_rng(2).random((2, 40))
    there, back = paired_test(a, b), paired_test(b, a)
    assert there.difference == -back.difference
    assert there.p == back.p


def test_p_is_never_0():
    assert paired_test(np.ones(100), np.zeros(100), resamples=999).p == 1 / 1000


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        ([], {}, "at least one query"),
        ([0.5, math.nan], {}, "finite"),
        ([0.5], {"resamples": 0}, "resamples must be 1 or more, not 0"),
        ([0.5], {"level": 1.0}, "the level must lie between 0 and 1"),
        ([0.5], {"level": 95}, "the level must lie between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, settings, message):
    with pytest.raises(UsageError, match=message):
        bootstrap_interval(values, **settings)
    with pytest.raises(UsageError, match=message):
        paired_test(values, values, **settings)


def test_different_numbers_of_queries_are_refused():
    with pytest.raises(UsageError, match="the same queries on both sides: 2 and 3"):
        paired_test([0.1, 0.2], [0.1, 0.2, 0.3])


def holm_by_hand(ps):
    """The smallest level at which Holm's procedure, as he states it, rejects each hypothesis."""
    levels = sorted({min(1.0, p * m) for p in ps for m in range(1, len(ps) + 1)})

    def rejected(level):
        order = sorted(range(len(ps)), key=lambda i: ps[i])
        kept = set()
        for step, i in enumerate(order):
            if ps[i] > level / (len(ps) - step) + 1e-15:
                break
            kept.add(i)
        return kept

    return [next((level for level in levels if i in rejected(level)), 1.0) for i in range(len(ps))]


@pytest.mark.parametrize("seed", range(20))
def test_holm_is_the_level_at_which_each_is_rejected(seed):
    ps = (np.random.default_rng(seed).random(5) ** 3).round(3).tolist()
    assert holm(ps) == pytest.approx(holm_by_hand(ps))


def test_holm_of_one_or_none_changes_nothing():
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_holm_keeps_false_alarms_rare():
    rng = np.random.default_rng(3)
    alarms = [min(holm(rng.random(8).tolist())) < 0.05 for _ in range(2_000)]
    assert 0.03 < np.mean(alarms) < 0.07
