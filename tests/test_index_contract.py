"""The contract of every vector index, compared value by value with NumPy in float64."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from semsearch.errors import InputError, UsageError
from semsearch.index.build import build
from semsearch.index.contract import ArrayRows
from semsearch.index.exact import ExactIndex
from semsearch.index.faiss_index import FaissIndex, IndexParams
from semsearch.index.library import Quantised
from semsearch.index.torch_index import TorchIndex
from semsearch.vectors import cut, unit

DIM = 48
N = 3000
EXACT = ("exact", "torch")
BUILT = ["exact", "Flat", "RaBitQfs", "IVF16,RaBitQfs", "HNSW8", "SQ8"]
KINDS = [*BUILT, "torch"]
RECALL_FLOOR = 0.9


def clustered(n, dim=DIM, seed=1):
    """Unit rows around 40 centres, with decaying energy, as encoders give after a rotation."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, dim + 1) ** -0.5
    centres = np.random.default_rng(0).standard_normal((40, dim)) * scale
    return unit(centres[rng.integers(40, size=n)] + 0.6 * rng.standard_normal((n, dim)) * scale)


def rows_of(vectors, dtype=np.float16):
    return ArrayRows(np.arange(len(vectors)) * 3 + 7, vectors.astype(dtype))


def make(rows, kind, candidates=150, dims=None, exact_rows=0):
    """The index of this kind, with so few candidates that a scan cannot stand in for it."""
    if kind == "exact":
        return ExactIndex(rows)
    if kind == "torch":  # room for the first blocks only: the others are copied for each search
        return TorchIndex(rows, "cpu", budget=3 * 700 * rows.dim, block_rows=700)
    dims = rows.dim if dims is None else dims
    quantised = Quantised.create(kind, dims)
    vectors = cut(rows.take(np.arange(len(rows))), dims)
    quantised.train(vectors)
    quantised.add(vectors)
    params = IndexParams(kind, dims, candidates, 8 if quantised.lists else 0, 0.0, len(rows), "")
    return FaissIndex(rows, quantised, params, exact_rows=exact_rows)


def brute_force(rows, queries):
    """float64 ``(Q, n)``: the cosine of the first d dimensions of both sides."""
    stored = rows.take(np.arange(len(rows)))[:, : queries.shape[1]].astype(np.float64)
    wanted = np.asarray(queries, dtype=np.float64)
    lengths = np.linalg.norm(wanted, axis=1)[:, None] * np.linalg.norm(stored, axis=1)
    return (wanted @ stored.T) / np.where(lengths > 0, lengths, 1)


def check(rows, queries, k, result, allowed=None, floor=RECALL_FLOOR):
    """Right shape, exact scores, right order, allowed ids only, and no worse than ``floor``."""
    cosines = brute_force(rows, queries)
    if allowed is not None:
        cosines[:, ~allowed] = -np.inf
    count = min(k, int(np.count_nonzero(cosines[0] > -np.inf)) if len(queries) else 0)
    assert result.ids.shape == result.scores.shape == (len(queries), k)
    assert (result.ids.dtype, result.scores.dtype) == (np.int64, np.float32)
    assert (result.ids[:, count:] == -1).all()
    assert (result.scores[:, count:] == -np.inf).all()
    ids, scores = result.ids[:, :count], result.scores[:, :count]
    ordinals = np.searchsorted(rows.ids, ids)
    assert np.array_equal(rows.ids[ordinals], ids)
    assert all(len(set(row)) == count for row in ids.tolist())
    np.testing.assert_allclose(scores, np.take_along_axis(cosines, ordinals, 1), atol=1e-6)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert (np.diff(ids, axis=1)[np.diff(scores, axis=1) == 0] > 0).all()
    best = -np.sort(-cosines, axis=1)[:, :count]
    if count:
        found = np.count_nonzero(scores >= best[:, -1:] - 1e-6) / scores.size
        assert found >= floor, f"recall {found:.3f}"
    return best


@pytest.fixture(scope="module")
def rows():
    return rows_of(clustered(N))


@pytest.fixture(scope="module")
def queries():
    return clustered(12, seed=2)


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    if request.param not in EXACT:
        pytest.importorskip("faiss", reason="FAISS is not installed: its kinds are NOT tested")
    return request.param


@pytest.fixture(scope="module")
def index(kind, rows):
    return make(rows, kind)


def test_values_and_recall(index, rows, queries, kind):
    result = index.search(queries, 10)
    best = check(rows, queries, 10, result)
    assert index.kind == ("exact" if kind in EXACT else kind)
    if kind in (*EXACT, "Flat"):
        np.testing.assert_allclose(result.scores, best, atol=1e-6)


def test_faiss_itself_proposes_by_inner_product(index, rows, queries, kind):
    if kind in EXACT:
        return
    best = brute_force(rows, queries).argmax(axis=1)
    first = index._quantised.propose(queries, 50)
    assert np.mean([b in row for b, row in zip(best, first, strict=True)]) >= RECALL_FLOOR


@pytest.mark.parametrize("dims", [1, 7, 24, 47])
def test_the_first_dimensions_are_renormalised(index, rows, queries, dims):
    # Cut vectors of few dimensions are nearly equal: a wide index cannot tell them apart.
    floor = RECALL_FLOOR if index.kind == "exact" else 0.0
    check(rows, queries[:, :dims], 10, index.search(queries[:, :dims], 10), floor=floor)


def test_faiss_may_hold_fewer_dimensions_than_are_scored(rows, queries, kind):
    narrow = make(rows, kind, dims=24)
    for dims in (DIM, 36, 24):
        check(rows, queries[:, :dims], 10, narrow.search(queries[:, :dims], 10), floor=0.8)


def test_a_batch_is_its_single_queries(index, queries):
    batch = index.search(queries, 10)
    for row in range(len(queries)):
        single = index.search(queries[row : row + 1], 10)
        assert np.array_equal(single.ids[0], batch.ids[row])
        assert np.array_equal(single.scores[0], batch.scores[row])


def test_any_memory_layout_and_float64(index, queries):
    wanted = index.search(queries, 5)
    wide = np.zeros((len(queries), 2 * DIM))
    wide[:, ::2] = queries
    for same in (queries.astype(np.float64), np.asfortranarray(queries), wide[:, ::2], queries * 9):
        found = index.search(same, 5)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-6)
        assert np.mean(found.ids == wanted.ids) > 0.98
    assert queries.flags.c_contiguous


@pytest.mark.parametrize("k", [0, 1, 900, N, N + 10])
def test_any_k(index, rows, queries, k):
    check(rows, queries[:3], k, index.search(queries[:3], k))


def test_no_queries(index):
    assert index.search(np.empty((0, DIM)), 4).ids.shape == (0, 4)


@pytest.mark.parametrize(
    "share", [0.0, 0.001, 0.02, 0.3, 0.9, 1.0], ids=lambda share: f"allowed-{share}"
)
def test_allowed_rows_only(index, rows, queries, share):
    allowed = np.random.default_rng(5).random(N) < share
    result = index.search(queries, 10, allowed)
    check(rows, queries, 10, result, allowed)
    if share == 0:
        assert (result.ids == -1).all()


def test_allowed_rows_that_are_far_from_the_query(index, rows, queries):
    cosines = brute_force(rows, queries)
    for row in range(3):
        allowed = np.zeros(N, dtype=bool)
        allowed[np.argsort(cosines[row])[:2000]] = True
        query = queries[row : row + 1]
        check(rows, query, 10, index.search(query, 10, allowed), allowed)


def test_a_whole_block_that_is_not_allowed(rows, queries):
    allowed = np.arange(N) >= 1100
    index = ExactIndex(rows)
    for mask in (allowed, None, allowed):
        check(rows, queries[:2], 9, index.search(queries[:2], 9, mask), mask, floor=1.0)


def test_one_allowed_row_in_the_last_block(index, rows, queries):
    allowed = np.zeros(N, dtype=bool)
    allowed[-1] = True
    result = index.search(queries[:1], 3, allowed)
    assert result.ids.tolist() == [[rows.ids[-1], -1, -1]]


def test_zero_query_scores_zero_by_ascending_id(index, rows, kind):
    result = index.search(np.zeros((1, DIM)), 3)
    check(rows, np.zeros((1, DIM)), 3, result)
    assert result.scores.tolist() == [[0.0] * 3]
    if kind in EXACT:
        assert result.ids.tolist() == [[7, 10, 13]]


def test_equal_rows_tie_exactly(kind):
    vectors = clustered(2000, seed=4)
    vectors[500:1500] = vectors[500]
    rows = rows_of(vectors)
    result = make(rows, kind).search(vectors[500:501], 20)
    # Which of a thousand equal rows are looked at is up to an approximate index.
    check(rows, vectors[500:501], 20, result)
    assert len(set(result.scores[0].tolist())) == 1
    if kind in EXACT:
        assert result.ids[0].tolist() == rows.ids[500:520].tolist()


def test_rows_whose_prefix_is_zero(kind):
    vectors = clustered(1000, seed=6)
    vectors[::2, :4] = 0
    rows = rows_of(unit(vectors))
    query = clustered(2, seed=7)[:, :4]
    floor = RECALL_FLOOR if kind in EXACT else 0.0
    check(rows, query, 900, make(rows, kind).search(query, 900), floor=floor)
    check(rows, query, 5, make(rows, kind, candidates=20, dims=4).search(query, 5), floor=floor)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_refused(index, queries, bad):
    spoilt = queries.copy()
    spoilt[3, 2] = bad
    with pytest.raises(InputError, match="vector 3 holds NaN or infinity"):
        index.search(spoilt, 5)


def test_wrong_arguments_are_refused(index, queries):
    with pytest.raises(UsageError, match="49 dimensions cannot search an index of 48"):
        index.search(np.ones((1, DIM + 1)), 5)
    with pytest.raises(UsageError, match="matrix"):
        index.search(queries[0], 5)
    with pytest.raises(UsageError, match="negative"):
        index.search(queries, -1)
    with pytest.raises(UsageError, match="1 <= |cut to 0"):
        index.search(np.empty((2, 0)), 1)
    for wrong in (np.ones(N - 1, dtype=bool), np.ones(N), np.ones((1, N), dtype=bool)):
        with pytest.raises(UsageError, match=f"bool mask of {N} rows"):
            index.search(queries, 5, wrong)


def test_several_threads_search_at_once(rows, kind, queries):
    mask = np.random.default_rng(8).random(N) < 0.5
    calls = [(queries, None), (queries, mask), (queries[:, :24], None), (queries[:2], None)] * 3
    index = make(rows, kind)
    alone = [index.search(q, 10, allowed) for q, allowed in calls]
    fresh = make(rows, kind) if kind in EXACT else index
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda call: fresh.search(call[0], 10, call[1]), calls))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.ids, other.ids)
        assert np.array_equal(one.scores, other.scores)


def test_arguments_are_not_changed(index, queries):
    asked, allowed = queries.copy(), np.arange(N) % 2 == 0
    index.search(asked, 5, allowed)
    assert np.array_equal(asked, queries)
    assert np.array_equal(allowed, np.arange(N) % 2 == 0)


def test_scores_are_the_same_numbers_in_every_index(index, rows, queries):
    exact, other = ExactIndex(rows).search(queries, N), index.search(queries, 10)
    for row in range(len(queries)):
        known = dict(zip(exact.ids[row].tolist(), exact.scores[row].tolist(), strict=True))
        for found, score in zip(other.ids[row].tolist(), other.scores[row].tolist(), strict=True):
            assert known[found] == score


def test_file_and_bytes_give_the_same_index(index, rows, queries, kind, tmp_path):
    if kind in EXACT:
        return
    data = index.to_bytes()
    path = tmp_path / "a.faiss"
    path.write_bytes(data)
    wanted, proposed = index.search(queries, 10), index._quantised.propose(queries, 90)
    for source in (path, data, data.tobytes(), memoryview(data)):
        again = FaissIndex.load(rows, source, index.params)
        assert np.array_equal(again._quantised.propose(queries, 90), proposed)
        found = again.search(queries, 10)
        assert np.array_equal(found.ids, wanted.ids)
        assert np.array_equal(found.scores, wanted.scores)


@pytest.mark.parametrize("kind", BUILT, indirect=True)
def test_built_index_reaches_its_recorded_recall(rows, kind):
    built = build(rows, kind=kind)
    assert isinstance(built.index, ExactIndex if kind == "exact" else FaissIndex)
    assert (built.params.kind, built.params.n) == (kind, N)
    # The small graph leaves some rows of the clusters without a way to them.
    assert built.params.recall >= (0.9 if kind == "HNSW8" else 0.99)
    check(rows, clustered(5, seed=9), 10, built.index.search(clustered(5, seed=9), 10))


def test_float32_rows_and_float16_rows_score_alike(queries):
    wide = clustered(N)
    half, full = ExactIndex(rows_of(wide)), ExactIndex(rows_of(wide, np.float32))
    check(full.rows, queries, 10, full.search(queries, 10), floor=1.0)
    apart = half.search(queries, 10).scores - full.search(queries, 10).scores
    assert 0 < np.abs(apart).max() < 1e-3


@pytest.mark.parametrize("kind", BUILT, indirect=True)
def test_no_rows_and_one_row(kind):
    nothing = ArrayRows([], np.empty((0, 6)))
    one = rows_of(np.eye(6)[:1])
    assert ExactIndex(nothing).search(np.ones((2, 6)), 3).ids.tolist() == [[-1] * 3] * 2
    if kind == "exact":
        assert build(nothing).index.search(np.ones((1, 6)), 0).ids.shape == (1, 0)
        assert build(one).index.search(np.ones((1, 6)), 2).ids.tolist() == [[7, -1]]
    else:
        with pytest.raises(InputError, match="no rows"):
            build(nothing, kind=kind)
