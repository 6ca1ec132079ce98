"""What the benchmarks write: medians, tables, JSON and the README; and what they count by."""

import json
import re
from importlib import import_module

import numpy as np
import pytest

from benchmarks import matrix, peers, readme, results
from benchmarks.__main__ import NAMES
from benchmarks.driver import System, versions
from benchmarks.matrix import Layers
from benchmarks.results import Goal, Result, Spread
from benchmarks.setting import Setting
from semsearch.metrics import evaluate_run
from semsearch.vectors import unit
from tests.fakes import real_encoder

FACTS = {
    "date": "2026-01-02T03:04:05+00:00",
    "commit": "0123456789abcdef",
    "machine": {
        "cpu": "a processor",
        "cores": 2,
        "memory_gib": 24.0,
        "flags": ["amx_bf16"],
        "load_average_before": [0.5, 0, 0],
        "load_average_after": [1.5, 0, 0],
    },
    "versions": {"python": "3.11.7"},
}


def test_a_spread_is_the_median_between_the_lowest_and_the_highest():
    assert Spread.of([9.0, 1.0, 2.0]) == (2.0, 1.0, 9.0)
    assert str(Spread.of([120.0, 0.5, 15.0])) == "15.0 (0.500 - 120)"


def test_a_result_comes_back_from_json_as_it_was_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    result = Result(
        "A title",
        {"name": "set"},
        rows=[{"what": "a", "n": 1_000}, {"what": "b", "n": None}],
        goals=[Goal("speed", ">= 2", 3.0, True)],
        notes=["a note"],
        more={"Quality": [{"what": "a", "ndcg@10": "0.645"}]},
        raw={"every": [1.5, 2.5]},
    )
    path = results.write("encoding", result, FACTS, "small")
    assert path.name == "encoding-small-0123456789ab.json"
    record = results.newest("encoding")
    assert record is not None
    assert record["raw"] == {"every": [1.5, 2.5]}
    shown = [line for part in results.parts(result) for line in part]
    written = [line for line in readme._lines(record)[1:] if line]
    assert written == shown
    assert "| b    | -     |" in shown
    assert "**Quality**" in shown
    assert shown[-2:] == ["- speed: 3.000, goal >= 2: met", "a note"]


def test_operations_are_those_that_pytorch_counts():
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 80}
    config = BertConfig(vocab_size=50, num_attention_heads=4, attn_implementation="eager", **sizes)
    model = BertModel(config, add_pooling_layer=False).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        for length in (5, 17):
            model(torch.ones((1, length), dtype=torch.int64))
    assert Layers(3, 32, 80).flop([5, 17]) == counter.get_total_flops()


def test_the_products_that_are_timed_are_computed():
    random = np.random.default_rng(0)
    shapes = [(64, 32), (32, 96)]
    weights = [random.standard_normal((a, b)) / a**0.5 for a, b in shapes]
    expected = random.standard_normal((40, 64)).astype(np.float32) @ weights[0] @ weights[1]
    found = matrix._in_openvino(40, shapes)()[0]
    assert found.shape == (40, 96)
    assert np.abs(found - expected).max() < 0.1  # bf16 has 8 bits
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999
    assert matrix._in_torch(40, shapes)().shape == (40, 96)


def test_every_benchmark_has_its_place_in_the_readme():
    marked = re.findall(r"<!-- results: (\w+) -->", readme.README.read_text(encoding="utf-8"))
    assert sorted(marked) == sorted(NAMES)
    assert all(hasattr(import_module(f"benchmarks.{name}"), "run") for name in NAMES)


def test_versions_are_named_where_they_were_told():
    told = {"a": {"versions": {"x": "1", "y": "2"}}, "b": {}, "c": None}
    assert versions(told) == ["Versions: a: x 1, y 2."]
    assert versions({"b": {}}) == []


@pytest.fixture
def labelled(tmp_path):
    """A small labelled set: questions are the beginnings of documents."""
    folder = tmp_path / "small-set"
    (folder / "qrels").mkdir(parents=True)
    texts = [
        f"{noun} {verb} in the {place}"
        for noun in ("cats", "rivers", "engines", "letters")
        for verb in ("sleep", "move", "fall")
        for place in ("morning", "valley")
    ]
    rows = [json.dumps({"_id": f"d{n}", "text": text}) for n, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(rows), encoding="utf-8")
    asked = {f"q{n}": " ".join(texts[n].split()[:2]) for n in (0, 5, 9)}
    rows = [json.dumps({"_id": id, "text": text}) for id, text in asked.items()]
    (folder / "queries.jsonl").write_text("\n".join(rows), encoding="utf-8")
    judged = "".join(f"q{n}\td{n}\t1\n" for n in (0, 5, 9))
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}", "utf-8")
    return folder, texts, asked


def test_whole_systems_on_a_small_set(tmp_path, monkeypatch, labelled):
    folder, texts, asked = labelled
    ours = System("ours", "ours", "Index", {"mode": "dense"})
    broken = System("broken", "no_such_module", "Index")
    monkeypatch.setattr(peers, "SYSTEMS", (ours, broken))
    monkeypatch.setattr(Setting, "main_dataset", lambda _: folder)
    result = peers.run(Setting(False, tmp_path))

    (row,) = result.rows
    assert row["system"] == "ours"
    assert result.notes[1].startswith("Not measured: broken. ModuleNotFoundError")
    found = [ids for answer in result.raw["search"]["ours"] for ids in answer["found"]]
    encode = real_encoder()
    documents = unit(encode.encode_documents(texts).vectors)
    scores = encode.encode_queries(list(asked.values())).vectors @ documents.T
    for ids, line in zip(found, scores, strict=True):
        best = sorted(line.tolist(), reverse=True)[:10]
        assert [line[int(id[1:])] for id in ids] == pytest.approx(best, abs=0.01)
    run = {
        query: {id: 1.0 / rank for rank, id in enumerate(ids, 1)}
        for query, ids in zip(asked, found, strict=True)
    }
    qrels = {query: {f"d{query[1:]}": 1} for query in asked}
    ndcg = evaluate_run(qrels, run, ["ndcg@10"]).means()["ndcg@10"]
    assert result.more["Quality"] == [{"system": "ours", "ndcg@10": f"{ndcg:.3f}"}]
    assert list((tmp_path / "peers").glob("*")) == []
