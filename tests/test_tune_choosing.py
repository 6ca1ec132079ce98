"""What tuning chooses and what it claims: worked out by hand, and on labels that are only noise."""

from statistics import NormalDist

import numpy as np
import pytest

from semsearch.evaluation.tuning.choosing import choose, held_out_gain, make_folds, validate
from semsearch.evaluation.tuning.grid import changes, make_grid, settings_of
from semsearch.metrics import paired_test
from semsearch.ranking.settings import DEFAULT_RANKING, FUSIONS, Ranking


def test_the_best_is_chosen_where_it_is_surely_better():
    values = np.array([[0.5] * 8, [0.6] * 8, [0.9] * 8])
    assert choose(values, 0, [0, 1, 1]) == 2


def test_the_default_stays_where_it_is_within_one_standard_error_of_the_best():
    default, best = [0.2, 0.8, 0.4, 0.6], [0.7, 0.4, 0.9, 0.3]
    behind = np.subtract(best, default)
    assert 0 < behind.mean() < behind.std(ddof=1) / 2
    assert choose(np.array([default, best]), 0, [0, 1]) == 0
    surely = np.array([default, np.add(default, [0.1, 0.2, 0.1, 0.2])])
    assert choose(surely, 0, [0, 1]) == 1


def test_of_settings_as_good_as_the_best_the_plainest_is_chosen_then_the_better():
    random = np.random.default_rng(0)
    default = random.uniform(0, 0.3, 50)
    best = default + 0.5 + random.normal(0, 0.2, 50)
    near = best - random.normal(0.001, 0.2, 50)
    values = np.array([default, best, near, near - 1e-6])
    assert values.mean(axis=1).argmax() == 1
    assert choose(values, 0, [0, 3, 1, 1]) == 2
    assert choose(values, 0, [0, 1, 1, 1]) == 1


def test_folds_hold_queries_of_one_group_together_and_are_even():
    groups = [f"text {n % 40}" for n in range(60)]
    folds = make_folds(groups, 5, seed=3)
    of_group: dict[str, set[int]] = {}
    for group, fold in zip(groups, folds.tolist(), strict=True):
        of_group.setdefault(group, set()).add(fold)
    assert all(len(found) == 1 for found in of_group.values())
    assert set(np.bincount(folds)) <= {11, 12, 13}
    assert np.array_equal(folds, make_folds(groups, 5, seed=3))
    assert not np.array_equal(folds, make_folds(groups, 5, seed=4))


def test_each_fold_is_measured_with_what_the_others_chose():
    random = np.random.default_rng(1)
    values = random.uniform(size=(6, 40))
    folds = make_folds(range(40), 4, seed=0)
    costs = [0, 1, 1, 2, 2, 3]
    found = validate(values, 0, costs, folds)
    expected = np.empty(40)
    for number, fold in enumerate(found.folds):
        inside = folds == number
        chosen = choose(values[:, ~inside], 0, costs)
        expected[inside] = values[chosen, inside]
        assert (fold.setting, fold.queries) == (chosen, inside.sum())
        assert fold.held_out == pytest.approx(values[chosen, inside].mean())
        assert fold.held_out_default == pytest.approx(values[0, inside].mean())
        assert fold.learned == pytest.approx(values[chosen, ~inside].mean())
        assert fold.learned_default == pytest.approx(values[0, ~inside].mean())
    assert np.array_equal(found.held_out, expected)
    plain = paired_test(expected, values[0])
    wider = (1 + 4 / 3) ** 0.5
    assert found.gain.difference == pytest.approx(plain.difference)
    assert found.gain.low - plain.difference == pytest.approx(
        wider * (plain.low - plain.difference)
    )
    assert found.gain.high - plain.difference == pytest.approx(
        wider * (plain.high - plain.difference)
    )
    change = expected - values[0]
    z = change.mean() / (wider * change.std(ddof=1) / 40**0.5)
    assert found.gain.p == pytest.approx(2 * NormalDist().cdf(-abs(z)))
    assert found.chosen == choose(values, 0, costs)


def noise(seed, settings=80, queries=60):
    """Settings that differ from the default by chance alone, as rankings of one pool do."""
    random = np.random.default_rng(seed)
    shared = random.uniform(0, 1, queries)
    own = random.normal(0, 0.15, (settings, queries)) * (random.random((settings, queries)) < 0.5)
    return np.clip(shared + own, 0, 1)


def test_no_gain_is_claimed_on_noise_more_often_than_the_interval_allows():
    claims = 0
    for seed in range(120):
        values = noise(seed)
        folds = make_folds(range(values.shape[1]), 5, seed)
        found = validate(values, 0, [0, *[1] * (len(values) - 1)], folds)
        claims += found.gain.low > 0
    assert claims <= 0.05 * 120


def test_a_gain_that_is_there_is_found():
    for seed in range(10):
        values = noise(seed, queries=200)
        values[17] = np.clip(values[0] + 0.1, 0, 1)
        folds = make_folds(range(200), 5, seed)
        found = validate(values, 0, [0, *[1] * (len(values) - 1)], folds)
        assert found.chosen == 17
        assert found.gain.low > 0


def test_a_gain_without_any_spread():
    same = np.full(30, 0.5)
    assert held_out_gain(same, same, 5) == (0.0, 0.0, 0.0, 1.0)
    found = held_out_gain(same + 0.25, same, 5)
    assert found == (0.25, 0.25, 0.25, 0.0)


def test_the_grid_holds_the_default_and_every_choice_once():
    settings = settings_of(make_grid())
    assert len(set(settings)) == len(settings)
    assert DEFAULT_RANKING in settings
    assert {s.fusion for s in settings} == set(FUSIONS)
    assert {s.rerank for s in settings} == {"self", "none"}
    assert {0.0, 0.6, 1.0} <= {s.dense_weight for s in settings}
    assert all(first.rerank == "none" for first in make_grid())
    with_model = settings_of(make_grid(["a-cross-encoder"]))
    added = [s for s in with_model if s.rerank == "a-cross-encoder"]
    assert len(with_model) == len(settings) + len(added)
    assert {(s.fusion, s.dense_weight, s.depth) for s in added} == {("surprise", 0.6, 100)}
    assert max(s.rerank_depth for s in added) == 50


def test_what_a_setting_changes():
    assert changes(DEFAULT_RANKING) == {}
    assert changes(Ranking(fusion="rrf", depth=200)) == {"fusion": "rrf", "depth": 200}
