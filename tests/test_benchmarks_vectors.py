"""The benchmark of vector indexes: its oracle, its tuning, and what it says of who fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import vector_search
from benchmarks.driver import System
from benchmarks.setting import Setting
from benchmarks.vector_data import Truth
from benchmarks.vector_peers.contract import Neighbours
from benchmarks.vector_peers.faiss_plain import Flat, Hnsw
from benchmarks.vector_peers.ours import Semsearch
from benchmarks.vector_search import Size, tune

ROWS, DIM, QUERIES = 1_500, 24, 40


def unit(array: np.ndarray) -> np.ndarray:
    return (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Files of vectors and queries."""
    folder = tmp_path_factory.mktemp("given")
    random = np.random.default_rng(3)
    np.save(folder / "vectors.npy", unit(random.standard_normal((ROWS, DIM))))
    np.save(folder / "queries.npy", unit(random.standard_normal((QUERIES, DIM))))
    return folder / "vectors.npy", folder / "queries.npy"


def nearest(given, k: int = 10) -> np.ndarray:
    vectors, queries = (np.load(path).astype(np.float64) for path in given)
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :k]


def test_recall_is_the_share_of_the_true_neighbours(given):
    truth, best = Truth(*given), nearest(given, 20)
    rows = list(range(QUERIES))
    assert truth.recall(rows, best[:, :10].tolist()) == 1
    assert truth.recall(rows, best[:, 9::-1].tolist()) == 1  # in any order
    assert truth.recall(rows, best[:, 3:13].tolist()) == pytest.approx(0.7)
    assert truth.recall(rows, best[:, 10:].tolist()) == 0
    half = [row[:10] if number % 2 else row[10:] for number, row in enumerate(best.tolist())]
    assert truth.recall(rows, half) == 0.5
    assert truth.recall(rows[1::2], half[1::2]) == 1


def test_a_row_named_twice_counts_once(given):
    best = nearest(given).tolist()
    assert Truth(*given).recall([0], [best[0][:5] * 2]) == 0.5


def test_a_turn_that_ended_early_is_judged_by_what_it_answered(given):
    best = nearest(given).tolist()
    assert Truth(*given).recall(list(range(QUERIES)), best[:7]) == 1


def test_a_row_that_ties_with_the_last_neighbour_counts(tmp_path: Path):
    random = np.random.default_rng(4)
    vectors = unit(random.standard_normal((40, 8)))
    vectors[20:] = vectors[:20]  # every row twice
    query = unit(random.standard_normal((1, 8)))
    np.save(tmp_path / "v.npy", vectors)
    np.save(tmp_path / "q.npy", query)
    order = np.argsort(-(vectors[:20] @ query[0])).tolist()
    truth = Truth(tmp_path / "v.npy", tmp_path / "q.npy", k=3)
    first, second, third = order[:3]
    assert truth.recall([0], [[first, first + 20, second]]) == 1
    assert truth.recall([0], [[first, first + 20, second + 20]]) == 1
    assert truth.recall([0], [[first, first + 20, third]]) == pytest.approx(2 / 3)


def test_truth_does_not_depend_on_blocks(given, monkeypatch):
    whole = Truth(*given)._lowest
    monkeypatch.setattr("benchmarks.vector_data._BLOCK", 7)
    np.testing.assert_allclose(Truth(*given)._lowest, whole, atol=1e-6)


def test_tuning_stops_at_the_first_setting_that_reaches_the_target():
    recalls = {1: 0.5, 2: 0.99, 4: 0.95, 8: 1.0}
    assert tune(list(recalls), recalls.__getitem__) == (2, {1: 0.5, 2: 0.99})


def test_tuning_that_does_not_reach_the_target_keeps_the_best():
    recalls = {1: 0.5, 2: 0.98, 4: 0.97}
    assert tune(list(recalls), recalls.__getitem__) == (2, recalls)
    assert tune([], recalls.__getitem__) == (None, {})


@pytest.mark.parametrize("kind", [Flat, Hnsw, Semsearch])
def test_an_index_that_was_built_is_opened_and_answers(kind: type[Neighbours], given, tmp_path):
    vectors, queries = map(str, given)
    built = kind(vectors, queries, str(tmp_path)).timed_build()
    assert built["disk"] >= ROWS * DIM * 2
    index = kind(vectors, queries, str(tmp_path))
    opened = index.timed_open()
    assert 0 <= opened["open_s"] <= opened["first_answer_s"]
    if index.settings:
        index.choose_setting(256)
    found = index.timed_search(list(range(QUERIES)), 60.0)
    assert len(found["ms"]) == QUERIES
    # half-precision rows may swap two that are nearly as near
    assert Truth(*given).recall(list(range(QUERIES)), found["found"]) >= 0.99
    assert index.timed_many([0, 1, 2])["rate"] > 0
    assert index.facts()["kind"]


def test_a_turn_ends_when_its_time_is_up(given, tmp_path):
    vectors, queries = map(str, given)
    index = Flat(vectors, queries, str(tmp_path))
    index.timed_build()
    index.open()
    assert len(index.timed_search(list(range(QUERIES)), -1.0)["ms"]) == 1


def test_a_whole_run_reports_who_failed_and_why(given, tmp_path, monkeypatch):
    place = "benchmarks.vector_peers."
    systems = (
        System("semsearch", place + "ours", "Semsearch"),
        System("FAISS HNSW", place + "faiss_plain", "Hnsw"),
        System("no such library", place + "nowhere", "Nothing"),
        System("not installed", place + "hnsw_lib", "Hnswlib", environment="nowhere"),
    )
    dataset = {"name": "random", "vectors": ROWS, "dims": DIM}
    monkeypatch.setattr(vector_search, "SYSTEMS", systems)
    monkeypatch.setattr(vector_search, "SMALL", Size(ROWS, QUERIES // 2, 60.0, 1.0))
    monkeypatch.setattr(vector_search, "make_vectors", lambda *_: (*given, dataset))
    monkeypatch.setattr("benchmarks.environments.REQUIREMENTS", tmp_path)
    (tmp_path / "nowhere.txt").write_text("nothing==1\n", encoding="utf-8")
    found = vector_search.run(Setting(full=False, work=tmp_path))
    assert [row["system"] for row in found.rows] == ["semsearch", "FAISS HNSW"]
    ours, hnsw = (dict[str, Any](row) for row in found.more["Quality"])
    assert ours["setting"] is None
    assert ours["recall@10"] >= 0.99
    tried = found.raw["FAISS HNSW"]["tried"]
    assert hnsw["setting"] == list(tried)[-1]
    assert [recall >= 0.99 for recall in tried.values()] == [*[False] * (len(tried) - 1), True]
    assert str(found.rows[0]["p50 times ours"]).startswith("1.000 (1.000")
    reasons = {row["system"]: str(row["reason"]) for row in found.more["Left out"]}
    assert reasons["no such library"].startswith("not built: ModuleNotFoundError: No module named")
    assert reasons["not installed"].startswith("not built: not installed")
    json.dumps(found.raw)
