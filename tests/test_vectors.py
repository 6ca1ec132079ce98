"""vectors.py against brute force in float64, and its properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from semsearch.errors import InputError, UsageError
from semsearch.types import Candidates
from semsearch.vectors import cut, fit_rotation, merge_top_k, top_k, unit, widen

TIED = st.sampled_from([-np.inf, -2.0, -0.0, 0.0, 0.5, 1.0, np.inf])
"""Few values, so that most of a row is tied."""


def sorted_by_hand(scores, ids, k):
    """The k best (score, id) of one row, by Python's own sort."""
    pairs = [(float(s), int(i)) for s, i in zip(scores, ids, strict=True) if s > -np.inf]
    return sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[:k]


def pairs_of(result, row):
    found = result.ids[row] != -1
    scores, ids = result.scores[row][found], result.ids[row][found]
    return list(zip(scores.tolist(), ids.tolist(), strict=True))


@given(
    scores=hnp.arrays(
        np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=TIED
    ),
    k=st.integers(0, 50),
    seed=st.integers(0, 99),
)
def test_top_k_is_the_sorted_list(scores, k, seed):
    ids = np.random.default_rng(seed).permutation(scores.shape[1] * 3)[: scores.shape[1]]
    result = top_k(scores, ids, k)
    assert result.ids.shape == result.scores.shape == (len(scores), k)
    assert result.ids.dtype == np.int64
    assert result.scores.dtype == np.float32
    for row, values in enumerate(scores):
        wanted = sorted_by_hand(values, ids, k)
        assert pairs_of(result, row) == wanted
        assert (result.ids[row, len(wanted) :] == -1).all()
        assert (result.scores[row, len(wanted) :] == -np.inf).all()


def test_ties_across_the_last_place_go_to_the_smallest_ids():
    scores = np.full((1, 1000), 0.25, dtype=np.float32)
    scores[0, 700] = 1
    ids = np.arange(1000)[::-1].copy()
    assert top_k(scores, ids, 4).ids.tolist() == [[299, 0, 1, 2]]


def test_negative_zero_ties_with_zero_and_comes_back_as_zero():
    result = top_k(np.array([[0.0, -0.0, -0.0]]), np.array([9, 4, 7]), 2)
    assert result.ids.tolist() == [[4, 7]]
    assert not np.signbit(result.scores).any()


def test_top_k_without_columns_or_queries():
    assert top_k(np.empty((2, 0)), np.empty(0), 3).ids.tolist() == [[-1] * 3] * 2
    assert top_k(np.empty((0, 5)), np.arange(5), 3).ids.shape == (0, 3)


@pytest.mark.parametrize(
    ("scores", "ids", "k", "error"),
    [
        ([[0.0, np.nan]], [1, 2], 1, InputError),
        ([[0.0, 1.0]], [1, 2], -1, UsageError),
        ([[0.0, 1.0]], [1, 2, 3], 1, UsageError),
        ([0.0, 1.0], [1, 2], 1, UsageError),
    ],
)
def test_top_k_refuses(scores, ids, k, error):
    with pytest.raises(error):
        top_k(np.array(scores), np.array(ids), k)


@given(
    scores=hnp.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(0, 30)), elements=TIED),
    at=st.integers(0, 30),
    k=st.integers(0, 12),
)
def test_merging_parts_equals_the_whole(scores, at, k):
    ids = np.arange(scores.shape[1]) * 7
    first, second = top_k(scores[:, :at], ids[:at], k), top_k(scores[:, at:], ids[at:], k)
    merged, whole = merge_top_k(first, second, k), top_k(scores, ids, k)
    assert np.array_equal(merged.ids, whole.ids)
    assert np.array_equal(merged.scores, whole.scores)


def test_merge_refuses_other_queries_and_nan():
    one, two = top_k(np.zeros((1, 1)), np.arange(1), 1), top_k(np.zeros((2, 1)), np.arange(1), 1)
    with pytest.raises(UsageError, match="1 and 2 queries"):
        merge_top_k(one, two, 1)
    with pytest.raises(InputError, match="NaN"):
        merge_top_k(one, Candidates(one.ids, np.full((1, 1), np.nan, dtype=np.float32)), 1)


@given(
    hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        st.tuples(st.integers(0, 6), st.integers(1, 9)),
        elements=st.floats(-60000, 60000, width=16),
    ),
    st.floats(1e-30, 1e30),
)
def test_unit_rows_have_length_one_and_the_same_direction(rows, scale):
    rows = rows.astype(np.float64) * scale if rows.dtype == np.float64 else rows
    rows = rows[np.any(rows != 0, axis=1)]
    units = unit(rows)
    assert units.dtype == np.float32
    exact = rows.astype(np.float64) / np.abs(rows).max(axis=1, initial=1e-300, keepdims=True)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    np.testing.assert_allclose(units, exact, atol=1e-7)


def test_unit_survives_what_overflows_when_squared():
    rows = np.array([[3e200, 4e200], [3e-320, 4e-320]])
    np.testing.assert_allclose(unit(rows), [[0.6, 0.8]] * 2, rtol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_unit_and_cut_name_the_bad_row(bad):
    rows = np.ones((9000, 3))
    rows[8500, 1] = bad
    for refuse in (unit, lambda r: cut(r, 2)):
        with pytest.raises(InputError, match="vector 8500 holds NaN or infinity"):
            refuse(rows)


def test_unit_refuses_a_zero_row_and_cut_keeps_a_zero_prefix():
    rows = np.array([[1.0, 2.0], [0.0, 0.0]])
    with pytest.raises(InputError, match="vector 1 is all zero"):
        unit(rows)
    assert cut(np.array([[0.0, 5.0], [3.0, 4.0]]), 1).tolist() == [[0.0], [1.0]]


@pytest.mark.parametrize("dims", [0, 4, -1])
def test_cut_refuses_other_widths(dims):
    with pytest.raises(UsageError, match=f"cut to {dims} dimensions: the vectors have 3"):
        cut(np.ones((2, 3)), dims)


def test_vectors_must_be_a_matrix():
    with pytest.raises(UsageError, match=r"\(3,\)"):
        unit(np.ones(3))


def test_widen_is_exact_for_every_finite_half():
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    halves = every[np.isfinite(every)].reshape(-1, 8)
    wide = widen(halves)
    assert np.array_equal(wide.view(np.int32), halves.astype(np.float32).view(np.int32))
    buffer = np.empty((len(halves), 4), dtype=np.float32)
    assert np.array_equal(widen(halves[:, ::2], buffer), wide[:, ::2])
    assert np.array_equal(widen(wide), wide)


def clustered(n, dim, seed=3):
    rng = np.random.default_rng(seed)
    scale = 1 / np.arange(1, dim + 1)
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0]
    return unit((rng.standard_normal((n, dim)) * scale + 0.3 * scale) @ turn)


def test_rotation_is_orthogonal_and_orders_the_energy():
    rows = clustered(3000, 48)
    turn = fit_rotation([rows[:1000], rows[1000:].astype(np.float16)], 48)
    assert turn.dtype == np.float32
    assert np.abs(turn.T.astype(np.float64) @ turn - np.eye(48)).max() < 1e-6
    turned = rows @ turn
    energy = (turned.astype(np.float64) ** 2).sum(axis=0)
    assert (np.diff(energy) < 1e-3 * energy[0]).all()
    np.testing.assert_allclose(turned @ turned[:5].T, rows @ rows[:5].T, atol=1e-6)
    # Each column is an eigenvector of the uncentred second moment.
    moment = rows.astype(np.float64).T @ rows
    product = moment @ turn
    np.testing.assert_allclose(product, turn * (turn * product).sum(axis=0), atol=0.05)
    # No other basis keeps more in its first columns.
    other = (rows[:, :12].astype(np.float64) ** 2).sum()
    assert energy[:12].sum() > 2 * other


def test_rotation_does_not_depend_on_blocks_and_has_fixed_signs():
    rows = clustered(2000, 16)
    whole = fit_rotation([rows], 16)
    parts = fit_rotation([rows[:7], rows[7:1999], rows[1999:]], 16)
    np.testing.assert_allclose(whole, parts, atol=1e-5)
    assert (whole[np.abs(whole).argmax(axis=0), np.arange(16)] > 0).all()


def test_rotation_of_few_or_no_rows():
    assert np.array_equal(fit_rotation([], 4), np.eye(4))
    turn = fit_rotation([np.array([[0.0, 2.0, 0.0]])], 3)
    np.testing.assert_allclose(turn.T @ turn, np.eye(3), atol=1e-6)
    assert turn[:, 0].tolist() == [0, 1, 0]


def test_rotation_refuses():
    with pytest.raises(UsageError, match="4 dimensions was given rows of 3"):
        fit_rotation([np.ones((2, 3))], 4)
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError, match="NaN or infinity"):
            fit_rotation([np.array([[1.0, bad]])], 2)
