"""Mining hard negatives: every row as brute force finds it, each rule by itself, no leaks."""

from dataclasses import replace

import numpy as np
import pytest

import semsearch
from semsearch.collection.reader import StaleSnapshot
from semsearch.errors import InputError, Mismatch, NotFound, StorageError, UsageError
from semsearch.search.options import Options
from semsearch.training.mining import Miner, Mining, mine
from semsearch.training.mining.proposals import Proposer
from tests.fakes import FakeEncoder, opened
from tests.mining_sets import (
    TRAIN,
    Oracle,
    ids,
    indexed,
    made_documents,
    mined,
    qrels,
    write_labelled,
)
from tests.models import build

DENSE = Mining(mode="dense")
CLOSE = Mining(mode="dense", ranks=(1, 20), per_query=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("mining") / "set"
    write_labelled(made, made_documents())
    return made


@pytest.fixture(scope="module")
def index(folder):
    with indexed(folder) as made:
        yield made


@pytest.fixture(scope="module")
def oracle(index, folder):
    return Oracle(index, folder)


SETTINGS = {
    "default": DENSE,
    "words": replace(DENSE, mode="lexical", ranks=(1, 30), per_query=3),
    "first": replace(DENSE, ranks=(1, 1)),
    "one": replace(DENSE, ranks=(7, 7), per_query=2),
    "all": replace(DENSE, ranks=(1, 1000), per_query=1000),
    "the last": replace(DENSE, ranks=(170, 1000), per_query=1000),
    "margin": replace(CLOSE, margin=0.2),
    "relative": replace(CLOSE, relative_margin=0.8, per_query=20),
    "cap": replace(CLOSE, max_score=0.6, per_query=20),
    "every rule": replace(CLOSE, margin=0.05, relative_margin=0.9, max_score=0.55, ranks=(3, 60)),
    "judged": replace(CLOSE, judged=True, max_score=0.1),
    "words, margin": replace(CLOSE, mode="lexical", margin=0.1),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_rows_are_those_of_brute_force(index, folder, oracle, name):
    mining = SETTINGS[name]
    expected, dropped = oracle.mine(mining)
    rows, report = mined(index, folder, mining)
    assert ids(rows) == ids(expected)
    assert len(rows) > 0
    assert [row["rank"] for row in rows] == [row["rank"] for row in expected]
    for key in ("positive_score", "negative_score"):
        assert [r[key] for r in rows] == pytest.approx([r[key] for r in expected], abs=1e-5)
    assert +report.dropped == +dropped
    assert (report.queries, report.rows, report.missing_documents) == (TRAIN, len(rows), 1)
    documents, texts = oracle.documents, oracle.texts
    for row in rows:
        assert row["anchor"] == texts[row["query_id"]]
        assert row["positive"] == documents[row["positive_id"]].content
        assert row["negative"] == documents[row["negative_id"]].content
    assert report.mean_positive == pytest.approx(np.mean([r["positive_score"] for r in rows]))
    assert report.mean_negative == pytest.approx(np.mean([r["negative_score"] for r in rows]))


def test_hybrid_candidates_are_those_that_a_query_finds(index, folder, oracle):
    """How deep a ranking is asked for may change it: it is asked for as deep as mining does."""
    rows, _ = mined(index, folder, Mining(ranks=(1, 20), per_query=20))
    depth = 32
    for query in sorted({row["query_id"] for row in rows}):
        found = index.searcher.rank([oracle.texts[query]], depth, Options())[0]
        forbidden, cosines = oracle.forbidden(query), oracle.cosines(oracle.texts[query])
        expected = [ranked.id for ranked in found if ranked.id not in forbidden][:20]
        own = [row for row in rows if row["query_id"] == query]
        first = [row for row in own if row["positive_id"] == own[0]["positive_id"]]
        assert [row["negative_id"] for row in first] == expected
        assert [row["rank"] for row in first] == list(range(1, 21))
        for row in first:
            assert row["negative_score"] == pytest.approx(cosines[row["negative_id"]], abs=1e-5)


def test_nothing_that_is_known_to_be_right_leaks_in(index, folder, oracle):
    """The positives of other splits by id or by text, and their copies, all rank high here."""
    documents = made_documents()
    everything = replace(DENSE, ranks=(1, 1000), per_query=1000)
    negatives: dict[str, set[str]] = {}
    for query, _, negative in ids(mined(index, folder, everything)[0]):
        negatives.setdefault(query, set()).add(negative)
    for n in range(TRAIN):
        query = f"q{n:02}"
        leaks = {
            "of the split": documents[n].id,
            "of another split": documents[20 + n].id,
            "of the same text in another split": documents[40 + n].id,
            "a copy under another title": f"copy{n:02}",
            "a copy but for spaces and case": f"same{n:02}",
            "the query as a document": f"asked{n:02}",
            "the query's id": query,
        }
        assert {why for why, name in leaks.items() if name in negatives[query]} == set()
        assert set(leaks.values()) <= oracle.forbidden(query).keys()
        assert documents[60 + n].id in negatives[query], "judged wrong: may be one"


def test_positives_of_a_file_of_queries_with_the_same_texts_are_kept_out(index, folder, tmp_path):
    documents = made_documents()
    other = tmp_path / "other.jsonl"
    other.write_text(f'{{"_id": "x", "text": "{documents[0].text[:15].upper()}"}}\n')
    judged = tmp_path / "mined.tsv"
    judged.write_text(f"x 0 {documents[0].id} 1\nq05 0 {documents[5].id} 1\n".replace(" ", "\t"))
    dataset = semsearch.corpus.BeirDataset.open(folder, None, other, judged)
    everything = replace(DENSE, ranks=(1, 1000), per_query=1000)
    rows, report = mined(index, dataset, everything, queries=other)
    assert (report.split, report.queries) == ("mined", 1)
    assert {row["query_id"] for row in rows} == {"x"}
    assert documents[0].id not in {row["negative_id"] for row in rows}


def test_a_file_of_judgements_knows_those_beside_it(index, folder):
    dataset = semsearch.evaluation.labelled.open_labelled(
        folder / "qrels" / "train.tsv", queries=folder / "queries.jsonl"
    )
    everything = replace(DENSE, ranks=(1, 1000), per_query=1000)
    assert ids(mined(index, dataset, everything)[0]) == ids(mined(index, folder, everything)[0])


def test_each_positive_anchors_its_own_negatives(index, folder, oracle):
    rows, _ = mined(index, folder, replace(CLOSE, ranks=(1, 150), margin=0.0, per_query=150))
    own: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        assert row["negative_score"] <= row["positive_score"]
        own.setdefault((row["query_id"], row["positive_id"]), set()).add(row["negative_id"])
    two = [found for (query, _), found in own.items() if query == "q00"]
    assert len(two) == 2, "q00 has two positives"
    assert two[0] != two[1]
    assert min(two, key=len) < max(two, key=len)


def test_tuples_have_all_their_negatives(index, folder):
    triplets, _ = mined(index, folder, replace(CLOSE, ranks=(2, 9), per_query=3, margin=0.1))
    tuples, report = mined(
        index, folder, replace(CLOSE, ranks=(2, 9), per_query=3, margin=0.1, layout="tuples")
    )
    by_positive: dict[tuple[str, str], list[dict]] = {}
    for row in triplets:
        by_positive.setdefault((row["query_id"], row["positive_id"]), []).append(row)
    whole = {pair: own for pair, own in by_positive.items() if len(own) == 3}
    assert 0 < len(whole) == len(tuples)
    for row in tuples:
        own = whole[row["query_id"], row["positive_id"]]
        assert list(row)[:5] == ["anchor", "positive", "negative_1", "negative_2", "negative_3"]
        assert [row[f"negative_{n}"] for n in (1, 2, 3)] == [r["negative"] for r in own]
        assert row["negative_ids"] == [r["negative_id"] for r in own]
        assert row["negative_scores"] == [r["negative_score"] for r in own]
        assert row["ranks"] == [r["rank"] for r in own]
    assert report.positives_without == 13 - len(whole)


def test_a_seed_draws_the_same_again_and_another_does_not(index, folder):
    drawn = replace(DENSE, ranks=(1, 60), per_query=3, sample="random", seed=5)
    first, again = (ids(mined(index, folder, drawn)[0]) for _ in range(2))
    assert first == again
    assert first != ids(mined(index, folder, replace(drawn, seed=6))[0])
    in_range = set(ids(mined(index, folder, replace(DENSE, ranks=(1, 60), per_query=60))[0]))
    assert set(first) < in_range
    assert [row["rank"] for row in mined(index, folder, drawn)[0]] != [1, 2, 3] * 13


def test_neighbours_change_no_row(index, folder, monkeypatch):
    drawn = Mining(ranks=(1, 40), per_query=3, sample="random", margin=0.05)
    together, _ = mined(index, folder, drawn)
    monkeypatch.setattr("semsearch.training.mining.run._AT_ONCE", 1)
    assert ids(mined(index, folder, drawn)[0]) == ids(together)


def test_queries_without_a_negative_are_counted_by_reason(index, folder, tmp_path):
    own = write_labelled(tmp_path / "set", made_documents())
    qrels(tmp_path / "set", "train", [("q00", own[0].id, 1), ("q01", own[1].id, 0)])
    report = mined(index, tmp_path / "set", replace(DENSE, ranks=(1, 5)))[1]
    assert dict(report.without) == {"no_positive": 1}
    far = Miner(index, folder, mining=replace(DENSE, ranks=(1000, 2000)))
    with pytest.raises(InputError, match="12 no candidates at these ranks"):
        list(far.rows())
    near = Miner(index, folder, mining=replace(DENSE, ranks=(1, 5), max_score=-0.9))
    with pytest.raises(InputError, match="no negative left.*12 all too similar to the query"):
        list(near.rows())
    assert near.report.to_json()["queries_without_rows"]["too_similar"] == 12
    few = Miner(index, folder, mining=replace(CLOSE, max_score=0.55, layout="tuples", per_query=20))
    with pytest.raises(InputError, match="too few for a tuple"):
        list(few.rows())


def test_a_real_model_and_its_index(folder, tmp_path):
    model = build("bert-cls", tmp_path / "models")
    with semsearch.open(tmp_path / "real.idx", model=model) as index:
        index.add(semsearch.read_corpus(folder))
        expected, _ = Oracle(index, folder).mine(replace(CLOSE, ranks=(1, 30)))
        rows = list(mine(index, folder, mining=replace(CLOSE, ranks=(1, 30))))
        assert ids(rows) == ids(expected)
        scores = [row["negative_score"] for row in expected]
        assert [row["negative_score"] for row in rows] == pytest.approx(scores, abs=1e-5)


def test_an_index_that_changes_meanwhile(index, folder, monkeypatch):
    expected = ids(mined(index, folder, DENSE)[0])
    propose, failures = Proposer.propose, [2]

    def sometimes(self, queries, dropped):
        found = propose(self, queries, dropped)
        failures[0] -= 1
        if failures[0] >= 0:
            raise StaleSnapshot
        return found

    monkeypatch.setattr(Proposer, "propose", sometimes)
    rows, report = mined(index, folder, DENSE)
    assert ids(rows) == expected
    assert report.dropped == mined(index, folder, DENSE)[1].dropped, "what failed is not counted"
    failures[0] = 99
    with pytest.raises(StorageError, match="the index was changed meanwhile: mine again"):
        mined(index, folder, DENSE)


def test_deleted_documents_are_no_negatives(folder, tmp_path):
    with opened(tmp_path / "made.idx", FakeEncoder(32, max_length=32)) as index:
        index.add(semsearch.read_corpus(folder), long_text="chunk")
        before, _ = mined(index, folder, replace(DENSE, ranks=(1, 2), per_query=2))
        gone = {row["negative_id"] for row in before} - {d.id for d in made_documents()[:12]}
        index.delete(sorted(gone))
        mining = replace(DENSE, ranks=(1, 2), per_query=2)
        rows, _ = mined(index, folder, mining)
        assert ids(rows) == ids(Oracle(index, folder).mine(mining)[0])
        assert not gone & {row["negative_id"] for row in rows}


def test_what_cannot_be_mined(index, folder, tmp_path):
    with pytest.raises(UsageError, match="ask for 1 or more"):
        Miner(index, folder, mining=Mining(per_query=0))
    with pytest.raises(NotFound):
        Miner(index, folder, mining=replace(DENSE, cross_encoder=str(tmp_path / "none")))
    with opened(tmp_path / "other.idx", FakeEncoder(32, max_length=32)) as other:
        other.add(made_documents(20, seed=9)[19:])
        with pytest.raises(InputError, match="none of the .* relevant documents is in"):
            Miner(other, folder)
    with opened(index.folder, FakeEncoder(16)) as another_model, pytest.raises(Mismatch):
        mined(another_model, folder, DENSE)
