"""Our runs and judgements, read from our files by ir_measures and ranx, give our numbers.

Where their rules differ from ours, the data are made so that the difference shows, and the test
says on which side it is mended:

- Ties: ranx and ir_measures' RR@k do not order tied scores by id. They are given the same ranking
  with its ranks as scores; all other measures of ir_measures read the scores, ties and all.
- A query without results counts 0 for us and for ir_measures; ranx refuses such a run unless it
  may make the two comparable, which counts 0, too.
- A query without relevant documents scores 0 for them and is left out by us; a query that nobody
  judged is in nobody's numbers.
- map_st is measured by sentence-transformers alone.
"""

import random
import re
import warnings
from pathlib import Path

import ir_measures
import numpy as np
import pytest

from semsearch.corpus import read_qrels, read_run, write_qrels, write_run
from semsearch.metrics import KNOWN_MEASURES, Evaluation, evaluate_run, rank_documents

CUTS = (1, 3, 5, 10, 100)
IN_IR_MEASURES = {
    "accuracy": "Success",
    "precision": "P",
    "recall": "R",
    "mrr": "RR",
    "ndcg": "nDCG",
    "map": "AP",
}
IN_RANX = {
    "accuracy": "hit_rate",
    "precision": "precision",
    "recall": "recall",
    "mrr": "mrr",
    "ndcg": "ndcg",
    "map": "map",
}
MEASURES = [f"{name}@{k}" for name in IN_RANX for k in CUTS]
GAINS = {grade: 2**grade - 1 for grade in range(1, 5)}


def made(seed: int):
    """Judgements and a run with everything in them that tools are known to disagree about."""
    chance = random.Random(seed)
    documents = [f"doc{number}" for number in range(600)] + ["7", "007", "é", "語", "\U0001f600"]
    qrels, run = {}, {}
    for query in (f"q{number}" for number in range(120)):
        judged = chance.sample(documents, chance.choice([1, 2, 30, 200]))
        qrels[query] = {d: chance.choice([-1, 0, 0, 1, 1, 2, 3, 4]) for d in judged} | {
            judged[0]: chance.choice([1, 4]),
            "never-indexed": 1,
        }
        found = {*chance.sample(judged, len(judged) // 2), *chance.sample(documents, 130)}
        digits = chance.choice([1, 2, 17])  # few digits make most rankings hold ties
        run[query] = {d: round(chance.uniform(-1, 1), digits) for d in sorted(found)}
    run["q1"] = {"doc1": 0.5}
    run["q2"] = {"doc1": 0.7 + 1e-9, "doc2": 0.7}  # a tie in float32
    qrels["q2"] = {"doc1": 1, "doc2": 0}
    del run["q3"]
    qrels["q4"] = {"doc1": 0, "doc2": -1}
    run["not-judged"] = {"doc1": 1.0}
    return qrels, run


def as_ranks(run):
    """The same rankings, with scores that leave nothing to a rule about ties."""
    ranked = {query: rank_documents(scores) for query, scores in run.items()}
    return {
        query: {document: float(len(order) - rank) for rank, document in enumerate(order)}
        for query, order in ranked.items()
    }


@pytest.fixture(scope="module", params=[1, 2])
def files(request, tmp_path_factory):
    """Paths of the judgements, the run and the run of ranks, as we write them."""
    folder: Path = tmp_path_factory.mktemp("trec")
    qrels, run = made(request.param)
    write_qrels(folder / "qrels.txt", qrels)
    write_run(folder / "run.txt", run)
    write_run(folder / "ranks.txt", as_ranks(run))
    return folder / "qrels.txt", folder / "run.txt", folder / "ranks.txt"


def ours(qrels_file: Path, run_file: Path, measures=MEASURES, gain="linear") -> Evaluation:
    found = evaluate_run(read_qrels(qrels_file), read_run(run_file), measures, gain=gain)
    assert len(found.query_ids) == 119
    assert found.skipped == ("q4",)
    assert found.without_results == ("q3",)
    assert found.unjudged == ("not-judged",)
    return found


def assert_equal(found: Evaluation, theirs: dict[str, dict[str, float]]):
    """``theirs`` is query -> our measure's name -> value."""
    names = [str(measure) for measure in found.measures]
    wanted = [[theirs[query][name] for name in names] for query in found.query_ids]
    np.testing.assert_allclose(found.values, wanted, rtol=0, atol=1e-9)
    assert 0.05 < found.values.mean() < 0.95
    assert theirs.keys() - {*found.query_ids} == {"q4"}
    assert set(theirs["q4"].values()) == {0.0}


def from_ir_measures(qrels_file: Path, run_file: Path, names: dict[ir_measures.Measure, str]):
    qrels = list(ir_measures.read_trec_qrels(str(qrels_file)))
    run = list(ir_measures.read_trec_run(str(run_file)))
    values: dict[str, dict[str, float]] = {}
    for metric in ir_measures.iter_calc(list(names), qrels, run):
        values.setdefault(metric.query_id, {})[names[metric.measure]] = metric.value
    return values


def test_every_measure_that_others_have_is_compared():
    known = re.sub(r" \([^)]*\)", "", KNOWN_MEASURES).replace("@k", "").split(", ")
    assert set(known) == IN_IR_MEASURES.keys() | {"map_st"} == IN_RANX.keys() | {"map_st"}


def test_a_run_of_ranks_is_the_same_run(files):
    qrels, run, ranks = files
    assert ours(qrels, ranks).values.tolist() == ours(qrels, run).values.tolist()
    scores = read_run(run).values()
    tied = [query for query in scores if len({*query.values()}) < len(query)]
    assert len(tied) > 50


def test_ir_measures_gives_our_numbers(files):
    qrels, run, ranks = files
    names = {
        ir_measures.parse_measure(f"{theirs}@{k}"): f"{name}@{k}"
        for name, theirs in IN_IR_MEASURES.items()
        for k in CUTS
    }
    first = {measure: name for measure, name in names.items() if name.startswith("mrr")}
    rest = {measure: name for measure, name in names.items() if measure not in first}
    theirs = from_ir_measures(qrels, run, rest)
    for query, values in from_ir_measures(qrels, ranks, first).items():
        theirs[query] |= values
    assert_equal(ours(qrels, run), theirs)


def test_ir_measures_gives_our_numbers_for_the_exponential_gain(files):
    qrels, run, _ = files
    names = {ir_measures.nDCG(gains=GAINS) @ k: f"ndcg@{k}" for k in CUTS}
    found = ours(qrels, run, list(names.values()), "exp")
    assert_equal(found, from_ir_measures(qrels, run, names))


def test_ir_measures_gives_our_means(files):
    qrels_file, run_file, _ = files
    qrels, run = read_qrels(qrels_file), read_run(run_file)
    del qrels["q4"]
    measure = ir_measures.nDCG @ 10
    mean = ir_measures.calc_aggregate([measure], qrels, run)[measure]
    assert evaluate_run(qrels, run, ["ndcg@10"]).means()["ndcg@10"] == pytest.approx(mean, abs=1e-9)


@pytest.mark.slow
def test_ranx_gives_our_numbers(files):
    # It compiles itself when first used: a minute, kept for later beside its files.
    ranx = pytest.importorskip("ranx", reason="RANX IS NOT INSTALLED: `make interop` compares it")
    warnings.simplefilter("ignore")  # numba's, about ranx's own casts; pytest restores the rest
    qrels_file, run_file, ranks_file = files
    qrels = ranx.Qrels.from_file(str(qrels_file), kind="trec")
    run = ranx.Run.from_file(str(ranks_file), kind="trec")
    with pytest.raises(AssertionError, match="query ids do not match"):
        ranx.evaluate(qrels, run, "ndcg@10")
    names = {f"{theirs}@{k}": f"{name}@{k}" for name, theirs in IN_RANX.items() for k in CUTS}
    assert_equal(ours(qrels_file, run_file), from_ranx(ranx, qrels, run, names))
    burges = {f"ndcg_burges@{k}": f"ndcg@{k}" for k in CUTS}
    found = ours(qrels_file, run_file, list(burges.values()), "exp")
    assert_equal(found, from_ranx(ranx, qrels, run, burges))


def from_ranx(ranx, qrels, run, names: dict[str, str]):
    ranx.evaluate(qrels, run, list(names), make_comparable=True)
    values: dict[str, dict[str, float]] = {}
    for theirs, name in names.items():
        for query, value in run.scores[theirs].items():
            values.setdefault(query, {})[name] = float(value)
    return values
