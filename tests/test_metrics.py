"""Hand-computed values, one test per rule, and properties that hold for any run."""

import doctest
import importlib
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from semsearch.errors import InputError, UsageError
from semsearch.metrics import (
    DEFAULT_MEASURES,
    Measure,
    evaluate_run,
    explain_rules,
    rank_documents,
)

NAMES = ("accuracy", "precision", "recall", "mrr", "ndcg", "map", "map_st")


def qrels_of(text):
    """Read lines of ``query document grade``."""
    qrels: dict[str, dict[str, int]] = {}
    for line in text.strip().splitlines():
        query, document, grade = line.split()
        qrels.setdefault(query, {})[document] = int(grade)
    return qrels


def run_of(text):
    """Read lines of ``query document score``."""
    run: dict[str, dict[str, float]] = {}
    for line in text.strip().splitlines():
        query, document, score = line.split()
        run.setdefault(query, {})[document] = float(score)
    return run


QRELS = qrels_of("""
    q1 d1 2
    q1 d2 1
    q1 d3 0
    q1 d9 1
    q2 d4 1
    q3 d5 1
""")
RUN = run_of("""
    q1 d3 9.0
    q1 d1 8.0
    q1 d7 7.0
    q1 d2 6.0
    q2 d6 3.0
    q2 d8 2.0
    q2 d4 1.0
    q3 d6 5.0
""")
LOG = math.log2


@pytest.mark.parametrize(
    ("measure", "q1", "q2", "q3"),
    [
        ("accuracy@1", 0, 0, 0),
        ("accuracy@2", 1, 0, 0),
        ("accuracy@3", 1, 1, 0),
        ("precision@1", 0, 0, 0),
        ("precision@2", 1 / 2, 0, 0),
        ("precision@3", 1 / 3, 1 / 3, 0),
        ("precision@10", 2 / 10, 1 / 10, 0),
        ("recall@2", 1 / 3, 0, 0),
        ("recall@3", 1 / 3, 1, 0),
        ("recall@4", 2 / 3, 1, 0),
        ("mrr@1", 0, 0, 0),
        ("mrr@2", 1 / 2, 0, 0),
        ("mrr@10", 1 / 2, 1 / 3, 0),
        ("ndcg@2", (2 / LOG(3)) / (2 + 1 / LOG(3)), 0, 0),
        ("ndcg@3", (2 / LOG(3)) / (2 + 1 / LOG(3) + 1 / LOG(4)), 1 / LOG(4), 0),
        ("ndcg@10", (2 / LOG(3) + 1 / LOG(5)) / (2 + 1 / LOG(3) + 1 / LOG(4)), 1 / LOG(4), 0),
        ("map@1", 0, 0, 0),
        ("map@2", (1 / 2) / 3, 0, 0),
        ("map@10", (1 / 2 + 2 / 4) / 3, 1 / 3, 0),
        ("map_st@2", (1 / 2) / 2, 0, 0),
        ("map_st@10", (1 / 2 + 2 / 4) / 3, 1 / 3, 0),
    ],
)
def test_hand_computed_values(measure, q1, q2, q3):
    found = evaluate_run(QRELS, RUN, [measure])
    assert found.query_ids == ("q1", "q2", "q3")
    assert found.per_query(measure).tolist() == pytest.approx([q1, q2, q3], abs=1e-15)
    assert found.means() == {measure: pytest.approx((q1 + q2 + q3) / 3, abs=1e-15)}


# The rules


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("success@3", "accuracy@3"),
        ("hit_rate@3", "accuracy@3"),
        ("top_k_accuracy@3", "accuracy@3"),
        ("hit@3", "accuracy@3"),
        ("P@3", "precision@3"),
        ("R@3", "recall@3"),
        ("nDCG@3", "ndcg@3"),
        ("MRR@3", "mrr@3"),
    ],
)
def test_every_name_of_a_measure_is_accepted_and_printed_as_typed(alias, name):
    found = evaluate_run(QRELS, RUN, [alias])
    assert found.means() == {alias: evaluate_run(QRELS, RUN, [name]).means()[name]}
    assert found.per_query(name).tolist() == found.per_query(alias).tolist()


def test_exponential_gain_on_request():
    best = (2**2 - 1) + 1 / LOG(3) + 1 / LOG(4)
    found = evaluate_run(QRELS, RUN, ["ndcg@10"], gain="exp").per_query("ndcg@10")
    assert found[0] == pytest.approx((3 / LOG(3) + 1 / LOG(5)) / best)
    assert found[1] == pytest.approx(1 / LOG(4))


def test_the_exponential_gain_refuses_grades_it_cannot_take():
    with pytest.raises(InputError, match="grade 5000 is too high"):
        evaluate_run({"q": {"d": 5000}}, {"q": {"d": 1.0}}, gain="exp")
    assert evaluate_run({"q": {"d": 5000}}, {"q": {"d": 1.0}}, ["ndcg@1"]).means() == {"ndcg@1": 1}


def test_the_ideal_is_taken_from_all_judged_documents():
    found = evaluate_run({"q": {"a": 1, "never found": 3}}, {"q": {"a": 1.0}}, ["ndcg@10"])
    assert found.means()["ndcg@10"] == pytest.approx(1 / (3 + 1 / LOG(3)))


def test_map_divides_by_all_relevant_documents_and_map_st_by_at_most_k():
    qrels = {"q": {f"d{number}": 1 for number in range(200)}}
    run = {"q": {f"d{number}": -float(number) for number in range(200)}}
    found = evaluate_run(qrels, run, ["map@100", "map_st@100"])
    assert found.means() == {"map@100": 0.5, "map_st@100": 1.0}


def test_negative_grades_are_not_relevant_and_gain_nothing():
    qrels = {"q": {"bad": -2, "good": 1}}
    found = evaluate_run(qrels, {"q": {"bad": 2.0, "good": 1.0}}, ["accuracy@1", "ndcg@2"])
    assert found.means() == {"accuracy@1": 0.0, "ndcg@2": pytest.approx(1 / LOG(3))}


def test_ties_are_ordered_by_descending_id_after_the_cast_to_float32():
    assert rank_documents({"a": 0.5, "c": 0.5, "b": 0.5 + 1e-9, "z": 0.4}) == ["c", "b", "a", "z"]
    assert rank_documents({"10": 1, "9": 1, "é": 1, "": 1}) == ["é", "9", "10", ""]
    assert rank_documents({"a": 0.0, "b": -0.0}) == ["b", "a"]
    assert rank_documents({"a": 1e39, "b": 2e300, "c": math.inf}) == ["c", "b", "a"]
    assert rank_documents({}) == []


@given(st.lists(st.text(), unique=True))
def test_ids_are_ordered_as_their_utf8_bytes(documents):
    as_bytes = sorted(documents, key=lambda text: text.encode("utf-8", "surrogatepass"))
    assert rank_documents(dict.fromkeys(documents, 1.0)) == as_bytes[::-1]


def test_a_judged_query_without_results_scores_0_and_stays_in_the_mean():
    qrels = {"q1": {"a": 1}, "q2": {"a": 1}, "q3": {"a": 1}, "q4": {"a": 1}}
    found = evaluate_run(qrels, {"q1": {"a": 1.0}, "q3": {}})
    assert set(found.means().values()) == {0.25, 0.025, 0.05, 0.25 / 3}
    assert found.without_results == ("q2", "q3", "q4")


def test_a_query_without_any_relevant_document_is_left_out_and_named():
    qrels = {"q1": {"a": 1}, "q2": {"a": 0, "b": -1}, "q3": {}}
    found = evaluate_run(qrels, {"q1": {"a": 1.0}, "q2": {"a": 1.0}, "q9": {"a": 1.0}})
    assert found.query_ids == ("q1",)
    assert found.skipped == ("q2", "q3")
    assert found.unjudged == ("q9",)
    assert found.means()["accuracy@1"] == 1.0


def test_a_hit_with_the_id_of_the_query_is_kept_unless_asked():
    qrels = {"x": {"a": 1}, "y": {"y": 1, "a": 1}, "z": {"a": 1}}
    run = {"x": {"x": 2.0, "a": 1.0}, "y": {"y": 2.0}, "z": {"a": 1.0}}
    kept = evaluate_run(qrels, run, ["mrr@10"])
    assert kept.per_query("mrr@10").tolist() == [0.5, 1.0, 1.0]
    assert kept.without_results == ()
    dropped = evaluate_run(qrels, run, ["mrr@10"], ignore_identical_ids=True)
    assert dropped.per_query("mrr@10").tolist() == [1.0, 0.0, 1.0]
    assert dropped.without_results == ("y",)


def test_nothing_is_rounded():
    assert evaluate_run(
        {"q": {"a": 1, "b": 1, "c": 1}}, {"q": {"a": 1.0}}, ["recall@1"]
    ).means() == {"recall@1": 1 / 3}


def test_the_printed_rules_name_every_measure_and_fit_a_terminal():
    text = explain_rules()
    assert max(map(len, text.splitlines())) <= 88
    for word in (
        *NAMES,
        "hit_rate@k",
        "float32",
        "--ignore-identical-ids",
        "bootstrap",
        "Differs:",
    ):
        assert word in text


# Measures as values, and refusals


def test_the_default_measures():
    assert " ".join(DEFAULT_MEASURES) == (
        "accuracy@1 accuracy@3 accuracy@5 accuracy@10 "
        "precision@1 precision@3 precision@5 precision@10 "
        "recall@1 recall@3 recall@5 recall@10 mrr@10 ndcg@10 map@100 recall@100"
    )
    assert tuple(evaluate_run(QRELS, RUN).means()) == DEFAULT_MEASURES


@given(st.sampled_from(NAMES), st.integers(1, 10**6))
def test_measures_print_as_they_parse(name, k):
    measure = Measure.parse(f"{name}@{k}")
    assert (measure.name, measure.k, str(measure)) == (name, k, f"{name}@{k}")
    assert str(Measure(name, k)) == f"{name}@{k}"
    assert Measure.parse(measure) is measure


@pytest.mark.parametrize(
    "text", ["", "ndcg", "ndcg@", "ndcg@0", "ndcg@-1", "ndcg@1.5", "ndcg@١", "bleu@10", "@10"]
)
def test_an_unknown_measure_is_refused_with_the_known_ones(text):
    with pytest.raises(UsageError, match="unknown measure") as caught:
        Measure.parse(text)
    assert all(f"{name}@k" in str(caught.value) for name in (*NAMES, "hit_rate"))
    assert "\n" not in str(caught.value)


def test_a_measure_made_by_hand_is_checked_too():
    with pytest.raises(UsageError, match="unknown measure 'ndcg@0'"):
        Measure("ndcg", 0)
    with pytest.raises(UsageError, match="unknown measure 'bleu@1'"):
        Measure("bleu", 1)


def test_nan_scores_are_refused_with_query_and_document():
    with pytest.raises(InputError, match="query 'q': the score of document 'b' is not a number"):
        evaluate_run({"q": {"a": 1}}, {"q": {"a": 1.0, "b": math.nan}})


def test_nothing_to_measure_is_refused():
    with pytest.raises(InputError, match="no query has a relevant document"):
        evaluate_run({"q": {"a": 0}}, RUN)
    with pytest.raises(InputError, match="no query has a relevant document"):
        evaluate_run({}, RUN)
    with pytest.raises(UsageError, match="no measure given"):
        evaluate_run(QRELS, RUN, [])
    with pytest.raises(UsageError, match="unknown gain 'burges'"):
        evaluate_run(QRELS, RUN, gain="burges")  # type: ignore[arg-type]


def test_a_measure_that_was_not_computed_is_refused():
    with pytest.raises(UsageError, match="ndcg@5 was not computed"):
        evaluate_run(QRELS, RUN).per_query("ndcg@5")


def test_values_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        evaluate_run(QRELS, RUN).values[0, 0] = 1.0


def test_intervals_hold_the_means():
    found = evaluate_run(QRELS, RUN)
    intervals = found.intervals(resamples=200)
    assert list(intervals) == list(DEFAULT_MEASURES)
    for name, mean in found.means().items():
        low, high = intervals[name]
        assert low <= mean <= high


def test_blocks_change_nothing(monkeypatch):
    whole = evaluate_run(QRELS, RUN).values
    monkeypatch.setattr(sys.modules["semsearch.metrics.evaluate"], "_BLOCK_CELLS", 1)
    assert np.array_equal(evaluate_run(QRELS, RUN).values, whole)


@pytest.mark.parametrize("module", ["formulas", "measures"])
def test_the_formulas_in_the_documentation_hold(module):
    found = doctest.testmod(importlib.import_module(f"semsearch.metrics.{module}"))
    assert found.attempted > 0
    assert found.failed == 0


def test_names_and_rules_are_known_without_numpy():
    code = (
        "import sys; from semsearch.metrics import *; from semsearch.metrics import Measure\n"
        "sys.exit('numpy' not in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    code = (
        "import sys; from semsearch.metrics import Measure, explain_rules\n"
        "explain_rules(); Measure.parse('ndcg@10'); sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Properties

DOCUMENTS = [f"d{number}" for number in range(12)]
grades = st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(-1, 3), min_size=1)
rankings = st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(-1000, 1000).map(float))
ORDER = st.permutations(DOCUMENTS)
EVERY = [f"{name}@{k}" for name in NAMES for k in (1, 2, 3, 5, 10, 20)]


def some_relevant(judged):
    return any(grade >= 1 for grade in judged.values())


@given(grades.filter(some_relevant), rankings)
def test_values_lie_between_0_and_1_and_grow_with_k(judged, ranking):
    found = evaluate_run({"q": judged}, {"q": ranking}, EVERY).means()
    assert all(0.0 <= value <= 1.0 + 1e-12 for value in found.values())
    for name in ("accuracy", "recall", "mrr", "map"):
        series = [found[f"{name}@{k}"] for k in (1, 2, 3, 5, 10, 20)]
        assert series == sorted(series)


@given(grades.filter(some_relevant))
def test_a_perfect_ranking_scores_1(judged):
    perfect = {document: float(grade) for document, grade in judged.items()}
    relevant = sum(grade >= 1 for grade in judged.values())
    for name in ("accuracy", "recall", "mrr", "ndcg", "map", "map_st", "precision"):
        k = relevant  # where every measure can reach 1
        found = evaluate_run({"q": judged}, {"q": perfect}, [f"{name}@{k}"]).means()
        assert found[f"{name}@{k}"] == pytest.approx(1.0)


@given(grades.filter(some_relevant), rankings)
def test_order_alone_counts(judged, ranking):
    # Doubling and shifting by a small integer are exact in float32, so no tie is made or broken.
    mapped = {document: 2.0 * score + 3.0 for document, score in ranking.items()}
    before = evaluate_run({"q": judged}, {"q": ranking}, EVERY).values
    assert np.array_equal(evaluate_run({"q": judged}, {"q": mapped}, EVERY).values, before)


@given(grades.filter(some_relevant), rankings, ORDER)
def test_names_do_not_count_where_nothing_is_tied(judged, ranking, order):
    assume(len(set(ranking.values())) == len(ranking))
    new = dict(zip(DOCUMENTS, order, strict=True))
    before = evaluate_run({"q": judged}, {"q": ranking}, EVERY).values
    renamed = evaluate_run(
        {"q": {new[document]: grade for document, grade in judged.items()}},
        {"q": {new[document]: score for document, score in ranking.items()}},
        EVERY,
    )
    assert np.array_equal(renamed.values, before)


@given(grades.filter(some_relevant), rankings)
def test_the_order_of_the_input_does_not_count_and_nothing_is_changed(judged, ranking):
    qrels = {"b": dict(judged), "a": dict(judged), "d1": dict(judged)}
    run = {"a": dict(ranking), "b": dict(ranking), "d1": dict(ranking)}
    found = evaluate_run(qrels, run, EVERY, ignore_identical_ids=True)
    assert qrels == {"b": judged, "a": judged, "d1": judged}
    assert run == {"a": ranking, "b": ranking, "d1": ranking}
    back = {query: dict(reversed(scores.items())) for query, scores in reversed(run.items())}
    again = evaluate_run(qrels, back, EVERY, ignore_identical_ids=True)
    assert found.query_ids == again.query_ids == ("a", "b", "d1")
    assert np.array_equal(found.values, again.values)


@given(grades.filter(some_relevant), rankings, st.integers(1, 12))
def test_map_st_is_the_formula_of_the_sentence_transformers_evaluator(judged, ranking, k):
    assume(len(set(ranking.values())) == len(ranking))
    relevant = {document for document, grade in judged.items() if grade >= 1}
    num_correct, sum_precisions = 0, 0.0
    for rank, document in enumerate(sorted(ranking, key=lambda d: ranking[d], reverse=True)[:k]):
        if document in relevant:
            num_correct += 1
            sum_precisions += num_correct / (rank + 1)
    expected = sum_precisions / min(k, len(relevant))
    found = evaluate_run({"q": judged}, {"q": ranking}, [f"map_st@{k}"]).means()
    assert found[f"map_st@{k}"] == pytest.approx(expected, abs=1e-12)
