"""Tuning an index: settings scored from arrays as searches rank, gains that are there, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import semsearch
import semsearch.encoders
from semsearch.cli.main import cli
from semsearch.collection.layout import Layout
from semsearch.collection.writer import open_for_writing
from semsearch.corpus import BeirDataset
from semsearch.errors import InputError, Locked, UsageError
from semsearch.evaluation import evaluate
from semsearch.evaluation.measure import as_run
from semsearch.evaluation.tuning import Tuning, tune
from semsearch.evaluation.tuning.candidates import Asked, judge_candidates
from semsearch.evaluation.tuning.grid import make_grid, settings_of
from semsearch.evaluation.tuning.run import set_ranking, tuning_split
from semsearch.evaluation.tuning.values import Labelled, rankings, values_of
from semsearch.metrics import Measure, evaluate_run
from semsearch.ranking.settings import DEFAULT_RANKING, Ranking
from semsearch.search.options import Options
from semsearch.types import Document, Query
from tests.cross_encoder_models import build_cross_encoder
from tests.fakes import WORDS, FakeEncoder, opened
from tests.test_evaluate import write_lines, write_set

K = 10


def long_documents(count, seed=0):
    """Some of several passages, ids in another order than they were added."""
    random = np.random.default_rng(seed)
    names = random.permutation(count)
    lengths = random.choice([4, 8, 30, 90], count)
    return [
        Document(f"d{name}", " ".join(random.choice(WORDS, length)), f"title {name % 7}")
        for name, length in zip(names.tolist(), lengths.tolist(), strict=True)
    ]


DOCUMENTS = long_documents(400)


def words_of(document, count):
    return " ".join(document.text.split()[:count])


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune") / "made.idx"
    made = opened(folder, FakeEncoder(32, max_length=32))
    made.add(DOCUMENTS, long_text="chunk")
    with made:
        yield made


def queries_of(count=12):
    return [Query(f"q{n:02}", words_of(DOCUMENTS[n], 3)) for n in range(count)]


def as_searched(index, queries, setting, k=K):
    """What a search with this setting gives, one query at a time: ids and scores."""
    options = Options(ranking=setting)
    return [index.searcher.rank([query.text], k, options)[0] for query in queries]


def some_settings(grid, count, seed=0):
    picked = np.random.default_rng(seed).choice(len(settings_of(grid)), count, replace=False)
    every = settings_of(grid)
    return {every[n] for n in picked.tolist()} | {DEFAULT_RANKING}


def test_a_setting_ranks_from_arrays_as_a_search_does(index):
    queries = queries_of()
    texts = [query.text for query in queries]
    asked = Asked([q.id for q in queries], texts, index.searcher.encode(texts), [{}] * 12)
    grid = make_grid()
    judged = judge_candidates(index.searcher, asked, K, grid)
    wanted = some_settings(grid, 24)
    seen = 0
    for first, settings in grid.items():
        here = [setting for setting in settings if setting in wanted]
        places = place_names(index, texts, first.depth)
        for setting, found in zip(here, rankings(judged[first.depth], first, here, K), strict=True):
            for row, expected in enumerate(as_searched(index, queries, setting)):
                names = [places[row][place] for place in found.ids[row].tolist() if place >= 0]
                assert names == [ranked.id for ranked in expected], setting
                scores = found.scores[row, : len(names)]
                assert scores.tolist() == pytest.approx([r.score for r in expected], abs=1e-6)
            seen += 1
    assert seen == len(wanted)


def place_names(index, texts, depth):
    """The documents of each query's pool by id, descending."""
    pool = index.searcher.stages(texts, K, Options(ranking=Ranking(depth=depth))).pool
    vids = pool.ids[pool.ids >= 0].tolist()
    owners = {vid: row.ext_id for vid, row in index.reader.documents_of(vids).items()}
    return [sorted((owners[v] for v in row if v >= 0), reverse=True) for row in pool.ids.tolist()]


@pytest.mark.parametrize("name", ["ndcg@10", "mrr@5", "recall@20", "map@10", "accuracy@1"])
def test_values_are_those_of_the_ranking_that_a_search_gives(index, name):
    check_values(index, Measure.parse(name), queries_of(), ignore_identical_ids=False)


def test_a_querys_own_document_may_be_left_out(index):
    queries = [Query(d.id, words_of(d, 4)) for d in DOCUMENTS[:12]]
    check_values(index, Measure.parse("ndcg@10"), queries, ignore_identical_ids=True)


def check_values(index, measure, queries, *, ignore_identical_ids):
    random = np.random.default_rng(5)
    names = [document.id for document in DOCUMENTS]
    qrels = {q.id: grades(random, names, number) for number, q in enumerate(queries)}
    grid = make_grid()
    labelled = Labelled(queries, qrels, ignore_identical_ids)
    values = values_of(index.searcher, labelled, measure, grid, lambda _: None)
    dataset = BeirDataset(Path(), None, "dev", queries, qrels, ())
    for row, setting in enumerate(settings_of(grid)):
        if setting in some_settings(grid, 6, measure.k):
            k = measure.k + ignore_identical_ids
            run = as_run(dataset, as_searched(index, queries, setting, k))
            found = evaluate_run(qrels, run, [measure], ignore_identical_ids=ignore_identical_ids)
            by_id = dict(zip(found.query_ids, found.per_query(measure).tolist(), strict=True))
            assert values[row].tolist() == pytest.approx([by_id[q.id] for q in queries]), setting


def grades(random, names, number):
    judged = {str(name): int(random.integers(0, 4)) for name in random.choice(names, 25)}
    return judged | {names[number]: 2}


def judged_by(index, setting, count=60):
    """Queries with the judgements under which ``setting`` ranks perfectly."""
    random = np.random.default_rng(7)
    queries = {f"q{n:02}": " ".join(random.choice(WORDS, 3)) for n in range(count)}
    found = index.searcher.rank(list(queries.values()), K, Options(ranking=setting))
    qrels = {
        query: {hit.id: K - rank for rank, hit in enumerate(ranking)}
        for query, ranking in zip(queries, found, strict=True)
    }
    return queries, qrels


BM25 = Ranking(dense_weight=0.0, rerank="none")


@pytest.fixture
def bm25_is_right(tmp_path, index):
    return in_split(tmp_path, "dev", *judged_by(index, BM25))


def in_split(tmp_path, split, queries, qrels):
    folder = write_set(tmp_path / f"set-{split}", DOCUMENTS, queries, qrels)
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / f"{split}.tsv")
    return folder


@pytest.fixture
def copy(tmp_path):
    """An index of its own, for what writes to it."""
    made = opened(tmp_path / "copy.idx", FakeEncoder(32, max_length=32))
    made.add(DOCUMENTS, long_text="chunk")
    with made:
        yield made


def test_a_gain_that_is_there_is_found_stored_and_served(copy, bm25_is_right):
    text = "balbol cicar"
    before = [(hit.id, hit.score) for hit in copy.search(text)]
    found = tune(copy, bm25_is_right)
    assert (found.chosen.dense_weight, found.chosen.rerank) == (0.0, "none")
    assert found.supported
    assert found.stored
    assert found.chosen_mean == pytest.approx(1.0)
    assert 0 < found.gain.low < found.gain.difference < found.gain.high
    assert found.held_out_mean - found.default_mean == pytest.approx(found.gain.difference)
    assert sum(fold.queries for fold in found.folds) == found.queries == 60
    assert copy.searcher.ranking == found.chosen
    expected = copy.searcher.rank([text], K, Options(ranking=found.chosen))[0]
    assert [hit.id for hit in copy.search(text)] == [ranked.id for ranked in expected]
    row = evaluate(copy, bm25_is_right, split="dev").results[0]
    assert row.metrics["ndcg@10"] == pytest.approx(found.chosen_mean)
    set_ranking(copy, None)
    assert [(hit.id, hit.score) for hit in copy.search(text)] == before


def test_labels_that_the_default_made_change_nothing(copy, tmp_path):
    found = tune(copy, in_split(tmp_path, "train", *judged_by(copy, DEFAULT_RANKING)))
    assert found.split == "train"
    assert found.chosen == DEFAULT_RANKING
    assert {fold.ranking for fold in found.folds} == {DEFAULT_RANKING}
    assert found.gain == (0.0, 0.0, 0.0, 1.0)
    assert not found.supported
    assert not found.stored
    assert copy.searcher.source.ranking is None


def test_random_labels_claim_nothing(index, tmp_path):
    random = np.random.default_rng(11)
    names = [document.id for document in DOCUMENTS]
    claimed = 0
    for seed in range(3):
        queries, qrels = judged_by(index, DEFAULT_RANKING, 40)
        noise = {query: {str(d): 1 for d in random.choice(names, 30)} for query in qrels}
        folder = in_split(tmp_path / str(seed), "dev", queries, noise)
        found = semsearch.tune(index, folder, store=False, tuning=Tuning(seed=seed))
        claimed += found.supported
    assert claimed == 0


def test_a_cross_encoder_is_tried_on_the_best_of_the_default(copy, tmp_path, monkeypatch):
    built = build_cross_encoder("bert", tmp_path / "pairs")
    model = str(built)
    by_pairs = Ranking(rerank=model, rerank_depth=20, rerank_weight=1.0)
    queries, qrels = judged_by(copy, by_pairs, 24)
    monkeypatch.chdir(built.parent)
    folder = in_split(tmp_path, "dev", queries, qrels)
    found = tune(copy, folder, tuning=Tuning(rerankers=[built.name, "self", "none"]))
    assert found.settings == len(settings_of(make_grid([model])))
    assert (found.chosen.rerank, found.chosen.rerank_depth) == (model, 20), "found from anywhere"
    assert found.stored
    row = evaluate(copy, folder, split="dev").results[0]
    assert row.metrics["ndcg@10"] == pytest.approx(found.chosen_mean)


def test_an_index_without_vectors_of_tokens_is_tuned_without_them(tmp_path):
    encoder = FakeEncoder(32)
    encoder.token_dim = 0
    with opened(tmp_path / "static.idx", encoder) as static:
        static.add(DOCUMENTS[:60], token_vectors=False)
        queries, qrels = judged_by(static, BM25, 24)
        found = tune(static, in_split(tmp_path, "dev", queries, qrels))
        assert (found.chosen.dense_weight, found.supported) == (0.0, True)


def test_tuning_again_gives_the_same(index, bm25_is_right):
    first, second = (tune(index, bm25_is_right, store=False) for _ in range(2))
    assert first == second


def test_too_few_queries_are_refused(index, tmp_path):
    queries, qrels = judged_by(index, BM25, 19)
    for number in range(30):  # the same question again is no further evidence
        queries[f"same{number}"] = queries["q00"].upper()
        qrels[f"same{number}"] = qrels["q00"]
    with pytest.raises(InputError, match="only 19 different queries"):
        tune(index, in_split(tmp_path, "dev", queries, qrels))


def test_the_split_to_learn_from(tmp_path):
    folder = write_set(tmp_path / "set", DOCUMENTS[:2], {"q": "text"}, {"q": {"d1": 1}})
    with pytest.raises(UsageError, match="no dev or train split to learn from, only test"):
        tuning_split(folder)
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq\td1\t1\n")
    assert tuning_split(folder) == "train"
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq\td1\t1\n")
    assert tuning_split(folder) == "dev"
    assert tuning_split(BeirDataset.open(folder)) is None
    assert tuning_split(folder / "qrels" / "dev.tsv") is None


def test_settings_of_tuning_that_make_no_sense(index, bm25_is_right):
    with pytest.raises(UsageError, match="folds must be between 2 and 20, not 1"):
        tune(index, bm25_is_right, tuning=Tuning(folds=1))
    with pytest.raises(UsageError, match="unknown measure"):
        tune(index, bm25_is_right, measure="quality")


@pytest.fixture
def shell(copy, monkeypatch):
    """The command line on that index; returns exit code, stdout, stderr."""
    encoder = copy._encoder
    monkeypatch.setattr(semsearch.encoders, "open_encoder", lambda *_, **__: encoder)
    copy.close()

    def run(*arguments):
        found = CliRunner().invoke(cli, [*map(str, arguments), "-i", str(copy.folder)])
        return found.exit_code, found.stdout, found.stderr

    return run


def test_the_command_prints_what_it_found_and_stores_it(shell, copy, bm25_is_right):
    code, out, _ = shell("tune", bm25_is_right)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["fold", "learned", "held", "out", "gain", "ranking"]
    assert [line.split()[0] for line in lines[1:3]] == ["default", "1"]
    assert "60 queries of split dev" in out
    assert "held-out gain over the default +0." in out
    assert lines[-1] == f"stored in {copy.folder}: dense_weight 0.0, rerank none"
    assert "tuned: dense_weight 0.0, rerank none" in shell("status")[1]
    assert json.loads(shell("status", "--json")[1])["ranking"] == {
        "dense_weight": 0.0,
        "rerank": "none",
    }
    code, out, _ = shell("evaluate", bm25_is_right, "--split", "dev")
    assert "this index was tuned: dense_weight 0.0, rerank none" in out
    assert shell("tune", "--reset")[:2] == (0, f"{copy.folder}: ranks by the default again\n")
    assert json.loads(shell("status", "--json")[1])["ranking"] is None
    assert "this index was tuned" not in shell("evaluate", bm25_is_right, "--split", "dev")[1]


def test_the_index_made_from_a_dataset_is_tuned_and_reset_too(shell, copy, tmp_path, monkeypatch):
    monkeypatch.setattr("semsearch.evaluation.dataset_index.dataset_folder", lambda *_: copy.folder)
    queries, qrels = judged_by(copy, BM25)
    copy.close()
    folder = in_split(tmp_path, "train", queries, qrels)

    def run(*arguments):
        return CliRunner().invoke(cli, [*map(str, arguments)])

    assert "stored in" in run("tune", folder).stdout
    (folder / "qrels" / "train.tsv").rename(folder / "qrels" / "test.tsv")
    assert "this index was tuned" in run("evaluate", folder).stdout
    assert "ranks by the default again" in run("tune", folder, "--reset").stdout
    assert "this index was tuned" not in run("evaluate", folder).stdout


def test_a_dry_run_stores_nothing(shell, bm25_is_right):
    code, out, _ = shell("tune", bm25_is_right, "--dry-run")
    assert (code, out.splitlines()[-1]) == (0, "nothing stored (--dry-run)")
    found = json.loads(shell("tune", bm25_is_right, "--dry-run", "--json")[1])
    assert (found["supported"], found["stored"], found["queries"]) == (True, False, 60)
    assert found["chosen"]["ranking"]["dense_weight"] == 0.0
    assert found["held_out"]["interval"][0] > 0
    assert len(found["folds"]) == 5
    assert json.loads(shell("status", "--json")[1])["ranking"] is None
    assert json.loads(shell("tune", bm25_is_right, "--json")[1])["stored"] is True
    assert json.loads(shell("status", "--json")[1])["ranking"]["rerank"] == "none"


def test_what_is_no_gain_is_not_stored_unless_forced(shell, copy, tmp_path, monkeypatch):
    queries, qrels = judged_by(copy, BM25, 24)
    folder = in_split(tmp_path, "dev", queries, qrels)
    monkeypatch.setattr(semsearch.evaluation.tuning.outcome.Tuned, "supported", False)
    code, out, _ = shell("tune", folder)
    assert code == 0
    assert out.splitlines()[-2:] == [
        "no gain that the labels support: the default stays",
        "nothing stored",
    ]
    code, out, _ = shell("tune", folder, "--force")
    assert (code, out.splitlines()[-1].split(": ")[0]) == (0, f"stored in {copy.folder}")
    assert shell("tune", folder)[1].splitlines()[-1].startswith("the index goes on as it was tuned")


def test_tuning_on_the_test_split_is_said_to_be_what_it_is(shell, copy, tmp_path):
    folder = in_split(tmp_path, "test", *judged_by(copy, BM25, 25))
    code, _, err = shell("tune", folder)
    assert code == 2
    assert "no dev or train split to learn from, only test" in err
    code, _, err = shell("tune", folder, "--split", "test", "--dry-run")
    assert code == 0
    assert "tuning on the test split: numbers measured on it are no longer held out" in err


def test_wrong_usage(shell, copy, bm25_is_right, monkeypatch):
    assert shell("tune")[0] == 2
    assert shell("tune", bm25_is_right, "--dry-run", "--force")[0] == 2
    monkeypatch.delenv("SEMSEARCH_INDEX", raising=False)
    found = CliRunner().invoke(cli, ["tune", "--reset"])
    assert found.exit_code == 2
    assert "--reset needs an index" in found.stderr
    missing = CliRunner().invoke(cli, ["tune", "--reset", "-i", str(copy.folder) + "-none"])
    assert missing.exit_code == 1


def test_an_index_that_is_being_written_is_not_tuned(copy, bm25_is_right):
    copy.close()
    with open_for_writing(Layout(copy.folder)), pytest.raises(Locked):
        tune(copy, bm25_is_right)


def test_a_query_without_relevant_documents_is_left_out(index, tmp_path):
    queries, qrels = judged_by(index, BM25, 21)
    qrels["q00"] = {DOCUMENTS[0].id: 0}
    found = tune(index, in_split(tmp_path, "dev", queries, qrels), store=False)
    assert (found.queries, found.skipped) == (20, 1)
    assert "1 query left out: no document is judged relevant" in str(found)


def test_a_dataset_without_texts(tmp_path, index):
    write_lines(tmp_path / "x.jsonl", [])
    qrels = tmp_path / "dev.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\n" + "q\td1\t1\n")
    with pytest.raises(UsageError, match="say nothing to search for"):
        tune(index, qrels)


def test_who_has_the_index_open_notices(copy):
    reading = opened(copy.folder, FakeEncoder(32, max_length=32))
    before = reading.search(DOCUMENTS[0].text, 3)
    set_ranking(copy, Ranking(fusion="rrf", rerank="none"))
    after = reading.search(DOCUMENTS[0].text, 3)
    assert reading.searcher.ranking.fusion == "rrf"
    assert [hit.score for hit in after] != [hit.score for hit in before]
    reading.close()
