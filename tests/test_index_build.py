"""Choosing, recording, loading and measuring an index; what happens without FAISS."""

import json
import subprocess
import sys

import numpy as np
import pytest

from semsearch.errors import Corrupt, InputError, MissingExtra, UsageError
from semsearch.index import build as building
from semsearch.index import library, tune
from semsearch.index.build import build, choose_kind
from semsearch.index.contract import ArrayRows
from semsearch.index.exact import ExactIndex
from semsearch.index.faiss_index import FaissIndex, IndexParams, candidates_for
from semsearch.index.library import Quantised
from semsearch.index.recall import Sample, measure_recall, recall, sample_ordinals
from semsearch.threads import thread_count
from semsearch.vectors import unit

needs_faiss = pytest.mark.skipif(
    subprocess.run([sys.executable, "-c", "import faiss"], capture_output=True).returncode != 0,
    reason="FAISS is not installed: its kinds are NOT tested",
)


def noise(n, dim=32, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((n, dim)))


def rows_of(vectors):
    return ArrayRows(np.arange(len(vectors)) + 1, vectors.astype(np.float16))


def data_of(built):
    data = built.to_bytes()
    assert data is not None
    return data


class Half:
    """An index that finds every second true neighbour only."""

    kind = "half"

    def __init__(self, rows):
        self.exact = ExactIndex(rows)

    def search(self, queries, k, allowed=None):
        found = self.exact.search(queries, 2 * k, allowed)
        found.ids[:, 2::2] = -1  # the first is the query's own row
        found.scores[:, 2::2] = -np.inf
        return found


def test_kind_by_size():
    assert choose_kind(0) == choose_kind(10_000) == "exact"
    lists = {10_001: 4, 60_000: 32, 1_000_000: 512, 10_000_000: 4_096, 10**9: 8_192}
    assert {n: choose_kind(n) for n in lists} == {
        n: f"RR,IVF{count},RaBitQfs" for n, count in lists.items()
    }


def test_recall_counts_true_neighbours_without_the_query_itself():
    rows = rows_of(noise(400))
    sample = Sample.of(rows, k=10, size=50)
    assert not (sample.truth.ids == sample.own[:, None]).any()
    assert (sample.truth.ids >= 0).all()
    assert recall(ExactIndex(rows), sample) == 1.0
    assert recall(Half(rows), sample) == 0.5
    assert measure_recall(ExactIndex(rows), rows, k=3, dims=8, size=20) == 1.0


def test_recall_counts_rows_that_tie():
    rows = rows_of(np.repeat(noise(4), 50, axis=0))

    class LastOfTheTies:
        kind = "last"

        def search(self, queries, k, allowed=None):
            found = ExactIndex(rows).search(queries, 50, allowed)
            found.ids[:], found.scores[:] = found.ids[:, ::-1].copy(), found.scores[:, ::-1].copy()
            return found

    assert measure_recall(LastOfTheTies(), rows, k=5) == 1.0


def test_recall_of_tiny_indexes():
    assert measure_recall(ExactIndex(rows_of(noise(1))), rows_of(noise(1))) == 1.0
    assert measure_recall(ExactIndex(rows_of(noise(3))), rows_of(noise(3))) == 1.0
    with pytest.raises(UsageError, match="at least one"):
        Sample.of(rows_of(noise(3)), k=0)
    with pytest.raises(UsageError, match="cut to 33"):
        Sample.of(rows_of(noise(3)), dims=33)


def test_the_sample_is_fixed_ascending_and_spread():
    first = sample_ordinals(10_000, 100)
    assert np.array_equal(first, sample_ordinals(10_000, 100))
    assert (np.diff(first) > 0).all()
    assert first[0] < 1000 < 9000 < first[-1]
    assert sample_ordinals(5, 100).tolist() == [0, 1, 2, 3, 4]


@needs_faiss
@pytest.mark.parametrize("kind", ["RaBitQfs", "RR,IVF32,RaBitQfs", "IVF64,Flat"])
def test_the_cheapest_settings_that_reach_the_recall_are_chosen(kind, monkeypatch):
    monkeypatch.setattr(tune, "CANDIDATES", (50, 100, 200, 400, 800))
    rows = rows_of(noise(6000, dim=64))
    low, high = build(rows, kind=kind, target=0.7), build(rows, kind=kind, target=0.99)
    for built, target in ((low, 0.7), (high, 0.99)):
        assert built.params.recall >= target
        assert built.params.recall == measure_recall(built.index, rows)
        assert built.params.built_with.startswith("faiss 1.")
    assert cost(low.params, kind) < cost(high.params, kind)
    assert low.params.recall < high.params.recall


def cost(params, kind):
    lists = int(kind.split("IVF")[1].split(",")[0]) if "IVF" in kind else 1
    return 6000 * max(params.nprobe, 1) / lists + 100 * params.candidates


@needs_faiss
def test_no_cheaper_settings_reach_the_recall(monkeypatch):
    monkeypatch.setattr(tune, "CANDIDATES", (100, 200, 400, 800))
    rows, kind = rows_of(noise(6000, dim=64)), "IVF64,RaBitQfs"
    sample = Sample.of(rows)
    built = build(rows, kind=kind, target=0.9, sample=sample)
    quantised = Quantised.from_bytes(data_of(built))
    for candidates in (100, 200, 400, 800):
        for nprobe in (8, 12, 16, 24, 32, 40, 48, 64):
            params = IndexParams(kind, 64, candidates, nprobe, 0.0, 6000, "")
            if cost(params, kind) < cost(built.params, kind):
                assert recall(FaissIndex(rows, quantised, params), sample) < 0.91


@needs_faiss
def test_the_best_settings_stay_when_none_reaches_the_target(monkeypatch):
    monkeypatch.setattr(tune, "CANDIDATES", (50, 100))
    monkeypatch.setattr(building, "_DIMS", 16)
    rows = rows_of(noise(6000, dim=64))
    built = build(rows, kind="RaBitQfs")
    assert (built.params.dims, built.params.candidates) == (64, 100)
    assert 0.1 < built.params.recall < 0.99
    narrow = build(rows, kind="RaBitQfs", dims=16)
    assert narrow.params.dims == 16
    assert narrow.params.recall < built.params.recall


@needs_faiss
def test_ties_count_as_found_when_settings_are_chosen():
    rows = rows_of(np.repeat(noise(300, dim=16), 20, axis=0))
    built = build(rows, kind="RaBitQfs")
    assert built.params.recall >= 0.99
    assert built.params.candidates <= 400


@needs_faiss
def test_a_recall_of_one_compares_every_row():
    assert build(rows_of(noise(300)), target=1).params.kind == "exact"


@needs_faiss
def test_few_queries_share_the_threads_for_nearly_the_same_answer(monkeypatch):
    rows = rows_of(noise(6000, dim=64))
    built = build(rows, kind="RR,IVF32,RaBitQfs", target=0.9)
    quantised = Quantised.from_bytes(data_of(built))
    quantised.set_probes(20)
    queries = noise(40, dim=64, seed=3)
    answers = {}
    for threads in (1, 2, 3):
        monkeypatch.setattr(library, "thread_count", lambda threads=threads: threads)
        answers[threads] = [quantised.propose(queries[i : i + 1], 100)[0] for i in range(40)]
    for threads in (2, 3):
        for one, many in zip(answers[1], answers[threads], strict=True):
            assert len(set(many.tolist())) == 100
            assert len(set(one.tolist()) & set(many.tolist())) >= 95  # roundings differ by part
            assert set(one[:5].tolist()) <= set(many[:20].tolist())


@needs_faiss
def test_a_query_that_asks_for_more_than_was_visited_is_scanned():
    rows = rows_of(noise(6000, dim=16))
    built = build(rows, kind="IVF64,Flat")
    index = FaissIndex.load(rows, data_of(built), built.params)
    assert measure_recall(index, rows) == built.params.recall
    # Fewer lists than could hold so many rows: what FAISS does not find, a scan does.
    assert (index.search(noise(3, dim=16, seed=5), 1400).ids >= 0).all()


@needs_faiss
def test_building_writes_nothing(capfd):
    build(rows_of(noise(300)), kind="IVF32,SQ8")
    assert capfd.readouterr() == ("", "")


@needs_faiss
@pytest.mark.parametrize("kind", ["Nonsense", "", "IVF16", "PQ7"])
def test_kinds_that_cannot_be(kind):
    with pytest.raises(UsageError, match="FAISS"):
        build(rows_of(noise(300)), kind=kind)


def test_dims_that_cannot_be():
    for dims in (0, 33):
        with pytest.raises(UsageError, match=f"build at {dims} dimensions: the vectors have 32"):
            build(rows_of(noise(30)), kind="RaBitQfs", dims=dims)


def test_params_survive_json_and_nothing_else_is_taken():
    params = IndexParams("IVF16,SQ8", 32, 800, 4, 1.0, 60, "faiss 1.15.1")
    values = json.loads(json.dumps(params.to_json()))
    assert IndexParams.from_json(values) == params
    changed = [{**values, **change} for change in ({"n": "60"}, {"n": True}, {"more": 1})]
    for wrong in (*changed, {"kind": "SQ8"}):
        with pytest.raises(Corrupt, match="wrong fields"):
            IndexParams.from_json(wrong)


@needs_faiss
def test_files_of_something_else_are_refused(tmp_path):
    rows = rows_of(noise(60))
    built = build(rows, kind="SQ8")
    data = built.to_bytes()
    assert data is not None
    path = tmp_path / "half.faiss"
    path.write_bytes(data[: len(data) // 2])
    for source in (path, tmp_path / "absent", b"nothing of ours", b"", data[:-5]):
        with pytest.raises(Corrupt, match="not a FAISS index"):
            FaissIndex.load(rows, source, built.params)
    with pytest.raises(Corrupt, match="60 x 32 vectors, not 61 x 32"):
        FaissIndex.load(rows_of(noise(61)), data, built.params)


def test_candidates_grow_with_k():
    assert [candidates_for(k, 800) for k in (1, 10, 40, 1000)] == [800, 800, 1600, 8000]
    assert candidates_for(1000, 100) == 4000


@needs_faiss
def test_few_allowed_rows_never_reach_faiss(monkeypatch):
    rows = rows_of(noise(5000))
    index = build(rows, kind="RaBitQfs").index
    monkeypatch.setattr(Quantised, "propose", lambda *_: pytest.fail("FAISS was asked"))
    allowed = np.arange(5000) % 100 == 3
    query = noise(1, seed=9)
    found = index.search(query, 10, allowed)
    assert np.array_equal(found.ids, ExactIndex(rows).search(query, 10, allowed).ids)


def test_rows_refuse_what_cannot_be_searched():
    for ids, vectors, text in (
        ([1, 2], np.ones((3, 2)), "do not fit"),
        ([1, 2], np.ones(2), "do not fit"),
        ([2, 1], np.ones((2, 2)), "ascend"),
        ([1, 1], np.ones((2, 2)), "ascend"),
    ):
        with pytest.raises(UsageError, match=text):
            ArrayRows(ids, vectors)


def test_rows_refuse_nan():
    with pytest.raises(InputError, match="NaN or infinity"):
        ArrayRows([1, 2], np.array([[1, 0], [np.nan, 1]], dtype=np.float16))


@needs_faiss
def test_more_lists_than_rows():
    with pytest.raises(UsageError, match="cannot train on 20 vectors"):
        build(rows_of(noise(20)), kind="IVF64,SQ8")


def test_threads_follow_the_environment(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert thread_count() == 3
    for nonsense in ("0", "many", ""):
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        assert thread_count() >= 1


def test_without_faiss_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtra, match=r"pip install 'semsearch\[cpu\]'"):
        build(rows_of(noise(30)), kind="RaBitQfs")
    built = build(rows_of(noise(30)))
    assert built.to_bytes() is None
    assert built.index.search(noise(1), 1).ids.shape == (1, 1)
