"""Checks of the rows before the first step: what each finds, how many, and in which rows."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from semsearch.errors import InputError
from semsearch.training.base_model import open_base
from semsearch.training.checks import Finding, check_rows, refuse_findings
from semsearch.training.evaluation_sets import HeldOut, held_out_texts, read_evaluations
from semsearch.training.recipe import Data, Evaluation, Judgement, Loss, Recipe, Training
from semsearch.training.rows import plain, read_data
from semsearch.types import Document
from tests.mining_sets import qrels
from tests.test_evaluate import write_set
from tests.training_sets import MODEL, easy_rows, made_rows, write_rows

BATCH_OF_TWO = Training(per_device_train_batch_size=2)
RECIPE = Recipe((Data("made.jsonl"),), training=BATCH_OF_TWO)


@pytest.fixture(scope="module")
def model():
    rows = [(row["anchor"], row["positive"]) for row in easy_rows(60)]
    return open_base(MODEL, [made_rows(*rows)], 0, "cpu")


@pytest.fixture
def check(model):
    def of(*texts, held_out=(), recipe=RECIPE):
        """Rows that are kept, and findings by kind."""
        kept, findings = check_rows(recipe, [made_rows(*texts)], model, held_out)
        kinds = [finding.kind for finding in findings]
        assert len(set(kinds)) == len(kinds)
        return kept[0], {finding.kind: finding for finding in findings}

    return of


def test_good_rows_give_no_finding(check):
    rows = [(row["anchor"], row["positive"], row["negative"]) for row in easy_rows(30)]
    kept, found = check(*rows)
    assert (kept.texts, found) == (rows, {})


def test_empty_rows_are_left_out(check):
    texts = [("a", "b"), ("", "c"), ("d", " \n\t"), ("e", "f"), ("\u2003", "")]
    kept, found = check(*texts)
    assert kept.texts == [("a", "b"), ("e", "f")]
    assert kept.lines == [1, 4]
    empty = found.pop("empty")
    assert (empty.count, empty.total, empty.lines, empty.allowed) == (3, 5, (2, 3, 5), False)
    assert found == {}
    with pytest.raises(InputError, match="every row has an empty text"):
        check(("", "a"), ("b", ""))


def test_identical_anchor_and_positive_are_allowed_and_named(check):
    texts = [("a b", "a  B "), ("c", "d"), ("e", "e"), ("f", "F"), ("g", "gg")]
    kept, found = check(*texts)
    assert kept.texts == texts
    identical = found.pop("identical")
    assert (identical.count, identical.total, identical.lines) == (3, 5, (1, 3, 4))
    assert identical.allowed
    assert "trains by dropout alone" in str(identical)
    assert found == {}


def test_a_negative_that_is_a_positive_of_the_same_anchor(check):
    texts = [
        ("q1", "p1", "n1", "n2"),
        ("q1", "p2", "n3", " P1"),  # a positive of row 1
        ("q2", "p3", "p3", "n4"),  # its own
        ("Q1", "p4", "p5", "p2"),  # of row 2, whose anchor is the same
        ("q3", "p5", "p1", "p2"),  # positives of other anchors
    ]
    _, found = check(*texts)
    wrong = found["contradiction"]
    assert (wrong.count, wrong.total, wrong.lines, wrong.allowed) == (3, 5, (2, 3, 4), False)


def test_queries_pairs_and_documents_that_are_measured(check):
    held_out = HeldOut(
        "the exam",
        queries=frozenset({"q one", "q two"}),
        documents=frozenset({"d one"}),
        pairs=frozenset({frozenset({"x", "y"}), frozenset({"same"})}),
    )
    texts = [
        ("Q  One", "other"),
        ("other", "q two"),
        ("y", "X"),  # the pair the other way round
        ("x", "z"),  # half a pair
        ("a", "D one"),
        ("same", "same"),
        ("q one", "d one"),
        ("b", "c"),
    ]
    _, found = check(*texts, held_out=[held_out])
    leak, documents = found["leak"], found["leak-documents"]
    assert (leak.count, leak.total, leak.lines) == (5, 8, (1, 2, 3, 6, 7))
    assert (documents.count, documents.total, documents.lines) == (2, 8, (5, 7))
    assert not leak.allowed
    assert not documents.allowed
    assert "the exam" in leak.message
    assert "the exam" in documents.message


def test_negatives_leak_too(check):
    held_out = HeldOut("the exam", frozenset({"q"}), frozenset({"d"}))
    _, found = check(("a", "b", "q"), ("c", "e", "d"), held_out=[held_out])
    assert (found["leak"].lines, found["leak-documents"].lines) == ((1,), (2,))


# Duplicates


def repeated(count, seed):
    """Rows of which many share an anchor, a positive or both."""
    random = np.random.default_rng(seed)
    anchors, positives = random.integers(0, count // 2, (2, count))
    rows = [(f"a{a}", f"p{p}") for a, p in zip(anchors.tolist(), positives.tolist(), strict=True)]
    rows[5] = rows[4] = rows[3]
    return rows


def met(rows, batch, seed):
    """How many rows stand in one batch with another of their anchor or positive, in one epoch."""
    order = np.random.default_rng(seed).permutation(len(rows))
    found = 0
    for start in range(0, len(rows), batch):
        some = [rows[i] for i in order[start : start + batch]]
        for n, (anchor, positive) in enumerate(some):
            others = some[:n] + some[n + 1 :]
            found += any(anchor == a or positive == p for a, p in others)
    return found


@pytest.mark.parametrize("batch", [2, 16, 64, 500])
def test_the_expected_duplicates_are_those_of_a_simulation(check, batch):
    rows = repeated(200, seed=1)
    training = Training(per_device_train_batch_size=batch, batch_sampler="batch_sampler")
    _, found = check(*rows, recipe=replace(RECIPE, training=training))
    finding = found["duplicates"]
    shared = [
        n for n, (a, p) in enumerate(rows)
        if any(m != n and (a == b or p == q) for m, (b, q) in enumerate(rows))
    ]  # fmt: skip
    assert (finding.count, finding.total) == (len(shared), 200)
    assert finding.lines == tuple(n + 1 for n in shared[:5])
    told = re.search(r"about ([\d,]+) rows an epoch", finding.message)
    assert told is not None
    simulated = np.mean([met(rows, batch, seed) for seed in range(60)])
    assert int(told[1]) == pytest.approx(simulated, rel=0.08, abs=1.5)
    assert f"batches of {batch} " in finding.message


def test_no_duplicates_where_the_sampler_avoids_them_or_the_loss_does_not_care(check):
    rows = repeated(40, seed=2)
    avoided = replace(RECIPE, training=replace(BATCH_OF_TWO, batch_sampler="no_duplicates"))
    assert "duplicates" not in check(*rows, recipe=avoided)[1]
    plain_sampler = replace(RECIPE, training=replace(BATCH_OF_TWO, batch_sampler="batch_sampler"))
    assert "duplicates" in check(*rows, recipe=plain_sampler)[1]
    cosent = replace(plain_sampler, loss=Loss("CoSENTLoss"))
    assert "duplicates" not in check(*rows, recipe=cosent)[1]


# Lengths and counts


def test_texts_that_are_cut_are_counted_by_the_model_tokenizer(check, model):
    word = "bal "
    rows = [(word * n, word * (m + 1)) for n, m in [(3, 3), (14, 3), (3, 13), (15, 15), (40, 1)]]
    lengths = [[len(model.tokenizer(text)["input_ids"]) for text in row] for row in rows]
    long = [n + 1 for n, pair in enumerate(lengths) if max(pair) > 16]
    assert long == [4, 5], "words are tokens here, and two more begin and end a text"
    _, found = check(*rows)
    cut = found["truncated"]
    assert (cut.count, cut.total, cut.lines) == (2, 5, (4, 5))
    assert "40.0% have a text longer than 16 tokens" in cut.message


def test_what_training_alone_cuts_counts_too(check):
    shorter = replace(RECIPE, training=replace(BATCH_OF_TWO, max_length=6))
    rows = [("bal " * 4, "x"), ("bal " * 5, "y"), ("bal", "bal " * 9)]
    _, found = check(*rows, recipe=shorter)
    assert found["truncated"].lines == (2, 3)
    assert "longer than 6 tokens" in found["truncated"].message
    longer = replace(RECIPE, training=replace(BATCH_OF_TWO, max_length=99))
    assert "truncated" not in check(*rows, recipe=longer)[1]


def test_of_many_rows_some_are_measured(model):
    rows = [("bal " * (30 if n % 4 == 0 else 1), f"p{n}") for n in range(44_000)]
    _, findings = check_rows(RECIPE, [made_rows(*rows)], model, [])
    (cut,) = (finding for finding in findings if finding.kind == "truncated")
    # every third row is looked at, of which every fourth is long
    looked_at = range(0, 44_000, 3)
    long = [n for n in looked_at if n % 4 == 0]
    assert cut.count == len(long)
    assert cut.lines == tuple(n + 1 for n in long[:5])
    assert cut.total == len(looked_at)
    assert "25.0% have a text longer than 16 tokens" in cut.message
    assert "one in 3 was looked at" in cut.message


def test_rows_that_the_file_labels_0_are_named_where_the_loss_takes_all_for_positive(
    tmp_path, model
):
    labels = [1, 0, 0.5, "0", -1, "yes"]
    lines = [
        json.dumps({"anchor": f"a{n}", "positive": f"p{n}", "label": label})
        for n, label in enumerate(labels)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    rows = read_data(Data("rows.jsonl"), tmp_path)
    _, findings = check_rows(RECIPE, [rows.only([0, 1, 3, 5])], model, [])
    (found,) = (finding for finding in findings if finding.kind == "labels")
    assert (found.count, found.lines) == (2, (2, 4))
    scored = replace(RECIPE, loss=replace(RECIPE.loss, name="CoSENTLoss"))
    assert "labels" not in [finding.kind for finding in check_rows(scored, [rows], model, [])[1]]


@pytest.mark.parametrize(
    ("count", "batch", "steps", "told"),
    [
        (3, 4, 1, "fewer than one batch of 4"),
        (4, 4, 1, None),
        (7, 4, 2, "fewer than the 8 of one step (4 x gradient_accumulation_steps)"),
        (3, 4, 2, "fewer than one batch of 4"),
        (8, 4, 2, None),
    ],
)
def test_too_few_rows_for_a_batch(check, count, batch, steps, told):
    training = Training(per_device_train_batch_size=batch, gradient_accumulation_steps=steps)
    rows = [(f"a{n}", f"p{n}") for n in range(count)]
    _, found = check(*rows, recipe=replace(RECIPE, training=training))
    if told is None:
        assert "few-rows" not in found
        return
    few = found["few-rows"]
    assert (few.count, few.total, few.lines) == (count, count, ())
    assert told in few.message


# What is made of them


def test_a_finding_is_one_line_with_the_first_rows():
    finding = Finding("empty", "rows.csv", 1200, 5000, (2, 3, 5), "an empty text")
    assert str(finding) == "rows.csv: 1,200 of 5,000 rows: an empty text (rows 2, 3, 5, ...)"
    all_of = replace(finding, count=3)
    assert str(all_of) == "rows.csv: 3 of 5,000 rows: an empty text (rows 2, 3, 5)"
    assert str(replace(finding, lines=())).endswith("rows: an empty text")
    assert Finding.from_json(json.loads(json.dumps(finding.to_json()))) == finding


def test_strict_refuses_what_is_not_allowed():
    wrong = Finding("empty", "a.csv", 1, 9, (2,), "an empty text")
    allowed = Finding("identical", "a.csv", 1, 9, (2,), "the same", allowed=True)
    refuse_findings([])
    refuse_findings([allowed, allowed])
    with pytest.raises(InputError, match=r"^a\.csv: 1 of 9 rows: an empty text \(rows 2\): mend"):
        refuse_findings([allowed, wrong])
    with pytest.raises(InputError, match="and 2 more findings: mend the rows, or leave out"):
        refuse_findings([wrong, allowed, wrong, wrong])


def test_each_source_is_looked_at_by_itself(model):
    first = made_rows(("a", "a"), ("b", "c"))
    second = replace(made_rows(("d", "e"), ("f", "f")), source="second.jsonl")
    _, findings = check_rows(RECIPE, [first, second], model, [])
    assert [(f.source, f.lines) for f in findings] == [("made.jsonl", (1,)), ("second.jsonl", (2,))]


# What is measured on


@pytest.fixture
def exam(tmp_path):
    """A labelled set of four queries; ``q3`` is not judged in dev."""
    documents = [Document(f"d{n}", f"document {n}") for n in range(8)]
    queries = {f"q{n}": f"query {n}" for n in range(4)}
    folder = write_set(tmp_path / "exam", documents, queries, {"q3": {"d7": 1}})
    qrels(folder, "dev", [("q0", "d0", 1), ("q0", "d4", 1), ("q1", "d1", 2), ("q2", "d2", 0)])
    return folder


def texts_of(folder, *evaluations, verdict=None):
    recipe = Recipe((Data("x"),), evaluation=evaluations, verdict=verdict)
    return held_out_texts(recipe, folder, read_evaluations(recipe, folder, []))


def test_what_is_held_out_of_each_kind(exam):
    root = exam.parent
    triplet = {"anchor": "A  b", "positive": "C", "negative": "D"}
    write_rows(root / "rows.jsonl", [triplet | {"label": 1}])
    found = texts_of(
        root,
        Evaluation("retrieval", "exam", "first"),
        Evaluation("retrieval", "rows.jsonl"),
        Evaluation("similarity", "rows.jsonl", "sts"),
        Evaluation("triplets", "rows.jsonl", "three"),
        verdict=Judgement("exam"),
    )
    assert found == [
        HeldOut(
            "first",
            frozenset({"query 0", "query 1", "query 2"}),
            frozenset({"document 0", "document 1", "document 4"}),
        ),
        # equal sets are told of once
        HeldOut("retrieval on rows.jsonl and three", frozenset({"a b"}), frozenset({"c"})),
        HeldOut("sts", pairs=frozenset({frozenset({"a b", "c"})})),
        HeldOut("the verdict on exam", frozenset({"query 3"}), frozenset({"document 7"})),
    ]


def test_unseen_leaves_out_what_is_trained_on(exam):
    root = exam.parent
    trained = [made_rows(("Query  0", "x"), ("y", "document 2"))]
    unseen = Evaluation("retrieval", "exam", unseen=True)
    recipe = Recipe((Data("x"),), evaluation=(unseen,))
    (found,) = read_evaluations(recipe, root, trained)
    assert found.queries == {"q1": "query 1", "q2": "query 2"}, "d2 is not relevant to q2"
    assert found.relevant == {"q1": {"d1"}, "q2": set()}
    assert len(found.corpus) == 8, "documents stay, as distractors"
    (found,) = read_evaluations(recipe, root, [made_rows(("y", "DOCUMENT 4"))])
    assert found.queries.keys() == {"q1", "q2"}, "q0 is answered by what is trained on"
    everything = [made_rows(*((f"query {n}", "x") for n in range(3)))]
    with pytest.raises(InputError, match="all of it is trained on"):
        read_evaluations(recipe, root, everything)
    (all_of,) = read_evaluations(
        replace(recipe, evaluation=(replace(unseen, unseen=False),)), root, everything
    )
    assert all_of.queries.keys() == {"q0", "q1", "q2"}


@pytest.mark.parametrize("kind", ["similarity", "classification", "triplets", "loss"])
def test_unseen_rows(tmp_path, kind):
    rows = [
        {"anchor": f"a{n}", "positive": f"p{n}", "negative": f"n{n}", "label": n % 2}
        for n in range(5)
    ]
    write_rows(tmp_path / "r.jsonl", rows)
    unseen = Evaluation(kind, "r.jsonl", unseen=True)
    recipe = Recipe((Data("x"),), evaluation=(unseen,))
    (found,) = read_evaluations(recipe, tmp_path, [made_rows(("A1", "x"), ("y", " p3"))])
    assert found.rows is not None
    assert found.rows.lines == [1, 3, 5]
    with pytest.raises(InputError, match="nothing is left that is unseen"):
        read_evaluations(recipe, tmp_path, [read_data(Data("r.jsonl"), tmp_path)])


def test_what_is_unseen_is_no_leak(exam, check):
    trained = made_rows(("query 0", "document 0"), ("y", "document 1"))
    wanted = Evaluation("retrieval", "exam", unseen=True)
    recipe = replace(RECIPE, evaluation=(wanted,))
    sets = read_evaluations(recipe, exam.parent, [trained])
    held_out = held_out_texts(recipe, exam.parent, sets)
    assert check(*trained.texts, held_out=held_out)[1] == {}
    seen = replace(recipe, evaluation=(replace(wanted, unseen=False),))
    sets = read_evaluations(seen, exam.parent, [trained])
    _, found = check(*trained.texts, held_out=held_out_texts(seen, exam.parent, sets))
    assert (found["leak"].lines, found["leak-documents"].lines) == ((1,), (1, 2))


def test_a_smaller_corpus_keeps_what_is_relevant(exam):
    recipe = Recipe((Data("x"),), evaluation=(Evaluation("retrieval", "exam", corpus_size=2),))
    (found,) = read_evaluations(recipe, exam.parent, [])
    (again,) = read_evaluations(recipe, exam.parent, [])
    (other,) = read_evaluations(replace(recipe, seed=1), exam.parent, [])
    assert found == again
    assert found.corpus != other.corpus
    assert found.corpus.keys() > {"d0", "d1", "d4"}
    assert len(found.corpus) == 5
    assert list(found.corpus) == sorted(found.corpus), "in the order of the file"
    more = replace(recipe, evaluation=(replace(recipe.evaluation[0], corpus_size=99),))
    assert len(read_evaluations(more, exam.parent, [])[0].corpus) == 8


def test_rows_as_retrieval_join_equal_texts(tmp_path):
    pairs = [("q", "a"), ("q", "b"), ("r", "a"), ("Q", "c")]
    write_rows(tmp_path / "r.jsonl", [{"anchor": a, "positive": p} for a, p in pairs])
    recipe = Recipe((Data("x"),), evaluation=(Evaluation("retrieval", "r.jsonl"),))
    (found,) = read_evaluations(recipe, tmp_path, [])
    answers = {
        found.queries[query]: {found.corpus[id] for id in ids}
        for query, ids in found.relevant.items()
    }
    assert answers == {"q": {"a", "b"}, "r": {"a"}, "Q": {"c"}}
    assert sorted(found.corpus.values()) == ["a", "b", "c"]
    assert plain("Q") == plain("q"), "but they are asked as they are"
