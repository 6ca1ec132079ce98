"""Every measure equals trec_eval's, query by query, to 1e-9."""

import random

import numpy as np
import pytest
import pytrec_eval
from hypothesis import assume, given
from hypothesis import strategies as st

from semsearch.metrics import evaluate_run

CUTS = (1, 3, 5, 10, 100)
TREC_NAMES = {
    "accuracy": "success",
    "precision": "P",
    "recall": "recall",
    "ndcg": "ndcg_cut",
    "map": "map_cut",
}
MEASURES = [f"{name}@{k}" for name in (*TREC_NAMES, "mrr") for k in CUTS]


def cut_as_trec_eval_orders(scores, k):
    """The top k, written out: float32 score descending, then the id's bytes descending."""
    ordered = sorted(
        scores, key=lambda doc: (float(np.float32(scores[doc])), doc.encode()), reverse=True
    )
    return {document: scores[document] for document in ordered[:k]}


def trec_eval(qrels, run):
    """Query id -> our measure's name -> trec_eval's value; queries without results are absent."""
    run = {query: scores for query, scores in run.items() if scores}
    # It writes beyond its memory where every grade is negative; nothing is relevant there anyway.
    qrels = {query: grades for query, grades in qrels.items() if max(grades.values()) >= 0}
    cuts = ",".join(map(str, CUTS))
    asked = {f"{name}.{cuts}" for name in TREC_NAMES.values()}
    found = pytrec_eval.RelevanceEvaluator(qrels, asked).evaluate(run)
    values = {
        query: {
            f"{name}@{k}": of_query[f"{theirs}_{k}"]
            for name, theirs in TREC_NAMES.items()
            for k in CUTS
        }
        for query, of_query in found.items()
    }
    for k in CUTS:
        top = {query: cut_as_trec_eval_orders(scores, k) for query, scores in run.items()}
        first = pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(top)
        for query in values:
            values[query][f"mrr@{k}"] = first[query]["recip_rank"]
    return values


def assert_equals_trec_eval(qrels, run):
    expected = trec_eval(qrels, run)
    found = evaluate_run(qrels, run, MEASURES)
    zeros = dict.fromkeys(MEASURES, 0.0)
    wanted = [
        [expected.get(query, zeros)[measure] for measure in MEASURES] for query in found.query_ids
    ]
    np.testing.assert_allclose(found.values, wanted, rtol=0, atol=1e-9)
    relevant = {query for query, grades in qrels.items() if any(g >= 1 for g in grades.values())}
    assert set(found.query_ids) == relevant


IDS = ["d1", "d2", "d10", "D1", "é", "z", "語", "語1", "\U0001f600", "\uffff", "a b", "", "10", "9"]
ids = st.sampled_from(IDS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4
)
# Few values, and values closer than float32 can tell apart: most rankings hold ties.
scores = st.sampled_from([0.0, -0.0, 0.5, 0.5 + 1e-9, 0.5 - 1e-9, -1.0, 7.0, 1e-30]) | st.floats(
    -1e6, 1e6
)
judgements = st.dictionaries(ids, st.integers(-2, 4), min_size=1, max_size=15)
rankings = st.dictionaries(ids, scores, max_size=20)
query_ids = st.sampled_from(["q1", "q2", "質問", "q4"])


@given(
    qrels=st.dictionaries(query_ids, judgements, min_size=1),
    run=st.dictionaries(query_ids, rankings),
)
def test_any_small_run_equals_trec_eval(qrels, run):
    assume(any(grade >= 1 for grades in qrels.values() for grade in grades.values()))
    assert_equals_trec_eval(qrels, run)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_large_run_equals_trec_eval(seed):
    chance = random.Random(seed)
    documents = [f"doc{number}" for number in range(2_000)]
    qrels, run = {}, {}
    for query in map(str, range(400)):
        judged = chance.sample(documents, chance.choice([1, 2, 30, 300]))
        qrels[query] = {document: chance.choice([-1, 0, 1, 1, 2, 3]) for document in judged}
        retrieved = {*chance.sample(judged, len(judged) // 2), *chance.sample(documents, 150)}
        digits = chance.choice([1, 3, 17])
        run[query] = {document: round(chance.random(), digits) for document in sorted(retrieved)}
    run["7"] = {}
    del run["8"]
    run["not judged"] = {"doc1": 1.0}
    assert_equals_trec_eval(qrels, run)


def test_a_difference_of_1e_9_is_a_tie():
    qrels = {"q": {"a": 1}}
    run = {"q": {"a": 0.7 + 1e-9, "b": 0.7}}
    assert_equals_trec_eval(qrels, run)
    assert evaluate_run(qrels, run, ["mrr@10"]).means() == {"mrr@10": 0.5}


def test_tied_ids_are_ordered_by_their_bytes():
    # In UTF-16 the emoji would come before U+FFFF; in bytes and in code points it comes after.
    qrels = {"q": {"\U0001f600": 3, "\uffff": 2, "z": 1}}
    run = {"q": dict.fromkeys(["z", "\uffff", "\U0001f600", "Z", "é"], 1.0)}
    assert_equals_trec_eval(qrels, run)
    assert evaluate_run(qrels, run, ["ndcg@1"]).means() == {"ndcg@1": 1.0}
