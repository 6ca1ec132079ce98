"""Verdicts: models that are better, worse or the same by how they were made; values by NumPy."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from semsearch.corpus import BeirDataset
from semsearch.encoders import open_encoder
from semsearch.errors import InputError, ModelError, NotFound, UsageError
from semsearch.evaluation.dataset_index import find_dataset_index, is_complete, open_dataset_index
from semsearch.metrics import bootstrap_interval, evaluate_run, paired_test
from semsearch.search.facade import Index
from semsearch.search.options import Options
from semsearch.training.served import SERVED_MEASURES, served_markdown, served_quality
from semsearch.training.verdict import judge
from semsearch.training.verdict_table import verdict_lines
from semsearch.vectors import cut
from tests.fakes import FakeEncoder, lower_limits, make_documents
from tests.models import build
from tests.test_evaluate import write_set

QUERIES = 40


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A place for models and datasets, with a cache of its own."""
    folder = tmp_path_factory.mktemp("verdict")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMSEARCH_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def labelled(home):
    """Queries of some of a document's words; the last one has nothing that is relevant."""
    documents = make_documents(120, seed=9)
    random = np.random.default_rng(9)
    queries, qrels = {}, {}
    for n in range(QUERIES):
        words = f"title {3 * n} {documents[3 * n].text}".split()
        del words[random.integers(2, len(words))]
        queries[f"q{n:02}"] = " ".join(words)
        qrels[f"q{n:02}"] = {documents[3 * n].id: 2, documents[3 * n + 1].id: 0}
    queries["none"], qrels["none"] = "bal", {documents[0].id: 0}
    return write_set(home / "set", documents, queries, qrels)


@pytest.fixture(scope="module")
def good(home):
    """A model of 64 dimensions that says nothing of narrower widths."""
    return build("bert-cls", home / "good")


@pytest.fixture(scope="module")
def matryoshka(good, home):
    """The same vectors, declared to be good at 32 and 16 dimensions too."""
    return declared(good, home / "matryoshka", [64, 32, 16])


@pytest.fixture(scope="module")
def ruined(good, home):
    """To this model all words are nearly the same."""
    folder = declared(good, home / "ruined", [64, 32, 16])
    change_weights(folder, lambda table: table * 0.02)
    return folder


@pytest.fixture(scope="module")
def wide(home):
    """A model of 112 dimensions."""
    return build("bert-dense", home / "wide")


def declared(model, folder, widths):
    shutil.copytree(model, folder)
    path = folder / "config_sentence_transformers.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"matryoshka_dims": widths}))
    return folder


def change_weights(model, change):
    """Change the vectors of the words."""
    from safetensors.numpy import load_file, save_file

    (path,) = model.rglob("model.safetensors")
    weights = load_file(path)
    (name,) = (name for name in weights if name.endswith("word_embeddings.weight"))
    table = weights[name]
    mean = table.mean(axis=0)
    save_file(weights | {name: (mean + change(table - mean)).astype(table.dtype)}, path)


@pytest.fixture(scope="module")
def better(ruined, matryoshka, labelled):
    return judge(ruined, matryoshka, labelled)


def assert_by_cosines(standing, model, labelled, dims):
    """The ranking holds the 100 nearest by cosine of the vectors cut to ``dims``, in NumPy.

    Scores may differ in their last bits, so near ties may stand either way.
    """
    data = BeirDataset.open(labelled)
    with open_dataset_index(data, model) as index:
        snapshot = index.reader.snapshot()
        vids = snapshot.rows.ids.tolist()
        rows = snapshot.rows.take(np.arange(len(vids)))
        owners = index.reader.documents_of(vids)
        names = [owners[vid].document.id for vid in vids]
        asked = open_encoder(str(model)).encode_queries([q.text for q in data.queries]).vectors
    scores = cut(asked, dims).astype(np.float64) @ cut(rows, dims).astype(np.float64).T
    for query, row in zip(data.queries, scores, strict=True):
        found, wanted = standing.run[query.id], dict(zip(names, row.tolist(), strict=True))
        assert found == pytest.approx({name: wanted[name] for name in found}, abs=2e-6)
        assert len(found) == 100
        left_out = max(score for name, score in wanted.items() if name not in found)
        assert min(found.values()) >= left_out - 2e-6
    again = evaluate_run(data.qrels, standing.run, ["ndcg@10"])
    values = standing.evaluation.per_query("ndcg@10")
    np.testing.assert_array_equal(values, again.per_query("ndcg@10"))
    assert standing.mean == pytest.approx(values.mean())
    assert standing.interval == pytest.approx(bootstrap_interval(values))


def pipelines(verdict):
    return [row.name for row in verdict.rows]


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """Two encoders that need no model: a base that gets a rotation, and one made to be cut."""
    made = {
        "base": FakeEncoder(16, "base"),
        "tuned": FakeEncoder(16, "tuned", matryoshka_dims=(8,)),
    }
    monkeypatch.setattr("semsearch.encoders.open_encoder", lambda name, **_: made[name])
    monkeypatch.setattr(
        "semsearch.encoders.fingerprint_of", lambda name, **_: made[name].fingerprint
    )
    monkeypatch.setenv("SEMSEARCH_CACHE", str(tmp_path / "cache"))
    return made


@pytest.fixture
def large(tmp_path):
    documents = make_documents(400, seed=2)
    queries = {f"q{n}": documents[9 * n].text[:24] for n in range(30)}
    qrels = {f"q{n}": {documents[9 * n].id: 1} for n in range(30)}
    return write_set(tmp_path / "large", documents, queries, qrels)


# The words


def test_a_model_that_was_ruined_is_worse_and_the_other_way_round(
    better, ruined, matryoshka, labelled
):
    assert pipelines(better) == ["dense@64", "dense@32", "dense@16", "hybrid"]
    assert {row.word for row in better.rows} == {better.word} == {"BETTER"}
    assert not better.worse
    back = judge(matryoshka, ruined, labelled)
    assert {row.word for row in back.rows} == {back.word} == {"WORSE"}
    assert back.worse
    for row, other in zip(better.rows, back.rows, strict=True):
        assert row.change.difference == -other.change.difference > 0
        assert (row.change.wins, row.change.losses) == (other.change.losses, other.change.wins)
        assert row.tuned.mean == other.base.mean


def test_a_model_does_not_differ_from_itself(good, labelled):
    verdict = judge(good, good, labelled, dims=[32, 8])
    assert pipelines(verdict) == ["dense@64", "dense@32", "dense@8", "hybrid"]
    assert verdict.word == "NO DIFFERENCE"
    assert not verdict.worse
    for row in verdict.rows:
        assert row.word == "NO DIFFERENCE"
        assert row.change.difference == 0
        assert row.change.p == row.change.p_holm == 1
        assert list(row.change.interval) == [0, 0]
        assert (row.change.wins, row.change.ties, row.change.losses) == (0, QUERIES, 0)
        assert verdict.moved(row) == []
    assert "moved most" not in str(verdict)


def test_one_row_that_is_worse_closes_the_gate(better):
    first, second, *others = better.rows
    worse = replace(second, change=replace(second.change, difference=-0.1))
    doubtful = replace(first, change=replace(first.change, p_holm=0.05))
    verdict = replace(better, rows=(doubtful, worse, *others))
    assert [row.word for row in verdict.rows[:2]] == ["NO DIFFERENCE", "WORSE"]
    assert verdict.word == "NO DIFFERENCE"
    assert verdict.worse


# The numbers


def test_the_values_are_those_of_cosines_in_numpy(better, ruined, matryoshka, labelled):
    for row, dims in zip(better.rows, (64, 32, 16), strict=False):
        assert_by_cosines(row.base, ruined, labelled, dims)
        assert_by_cosines(row.tuned, matryoshka, labelled, dims)
        before, after = (s.evaluation.per_query("ndcg@10") for s in (row.base, row.tuned))
        test = paired_test(after, before)
        assert row.change.difference == pytest.approx(test.difference)
        assert row.change.interval == pytest.approx((test.low, test.high))
        assert row.change.p == test.p
        assert row.change.wins == (after > before + 1e-9).sum()
        assert row.change.losses == (after < before - 1e-9).sum()
        assert row.tuned.kept == pytest.approx(row.tuned.mean / better.rows[0].tuned.mean)
        assert row.base.kept == pytest.approx(row.base.mean / better.rows[0].base.mean)
    assert better.rows[0].tuned.kept == 1
    assert better.rows[-1].tuned.kept is None


def test_the_default_pipeline_is_what_query_serves(better, labelled):
    data = BeirDataset.open(labelled)
    row = better.rows[-1]
    with Index(better.tuned.index, None) as index:
        for query in data.queries[:5]:
            hits = [hit.id for hit in index.search(query.text, 10)]
            assert list(row.tuned.run[query.id])[:10] == hits


def test_p_is_corrected_over_all_rows(fakes, large):
    fakes["tuned"] = FakeEncoder(24, "wider")
    verdict = judge("base", "tuned", large, dims=[16, 8, 4], measure="mrr@10")
    assert verdict.measure == "mrr@10"
    assert pipelines(verdict) == [
        "dense@24 against dense@16",
        "dense@16",
        "dense@8",
        "dense@4",
        "hybrid",
    ]
    ps = [row.change.p for row in verdict.rows]
    assert len(set(ps)) > 2
    ordered = sorted(ps)
    for row in verdict.rows:
        steps = [(5 - i) * p for i, p in enumerate(ordered) if p <= row.change.p]
        assert row.change.p_holm == pytest.approx(min(1.0, max(steps)))


def test_the_queries_that_moved_most(fakes, large):
    verdict = judge("base", "tuned", large)
    row = verdict.rows[1]
    before, after = (s.evaluation.per_query("ndcg@10") for s in (row.base, row.tuned))
    ids = row.base.evaluation.query_ids
    change = dict(zip(ids, (after - before).tolist(), strict=True))
    found = verdict.moved(row, 3)
    gained = [m for m in found if m.value > m.baseline]
    lost = [m for m in found if m.value < m.baseline]
    assert found == gained + lost
    assert len(gained) == 3
    assert len(lost) == min(3, row.change.losses) > 0
    best = sorted(change.values(), reverse=True)[:3]
    assert [m.value - m.baseline for m in gained] == pytest.approx(best)
    assert lost[0].value - lost[0].baseline == pytest.approx(min(change.values()))
    texts = {query.id: query.text for query in BeirDataset.open(large).queries}
    for m in found:
        assert m.value - m.baseline == change[m.query_id]
        assert m.text == texts[m.query_id]


# Widths


def test_models_of_other_widths(good, wide, home, labelled):
    narrow = declared(good, home / "narrow", [64, 48, 32])
    down = judge(wide, narrow, labelled)
    assert pipelines(down) == [
        "dense@64 against dense@112",
        "dense@64",
        "dense@48",
        "dense@32",
        "hybrid",
    ]
    full, same = down.rows[:2]
    assert_by_cosines(full.base, wide, labelled, 112)
    assert_by_cosines(same.base, wide, labelled, 64)
    assert full.tuned.mean == same.tuned.mean
    assert (full.base.kept, same.tuned.kept) == (1, 1)
    assert same.base.kept == pytest.approx(same.base.mean / full.base.mean)
    wider = declared(wide, home / "wider", [112, 96, 32])
    up = judge(good, wider, labelled)
    assert pipelines(up) == ["dense@112 against dense@64", "dense@32", "hybrid"], "96: not in both"
    assert (up.base.dims, up.tuned.dims) == (64, 112)
    assert pipelines(judge(good, wider, labelled, dims=[])) == [
        "dense@112 against dense@64",
        "hybrid",
    ]


def test_the_base_is_served_as_its_index_would_be(fakes, large):
    done: list[int] = []
    verdict = judge("base", "tuned", large, progress=done.append)
    assert sum(done) == 800
    assert pipelines(verdict) == ["dense@16", "dense@8", "hybrid"]
    row = verdict.rows[1]
    data = BeirDataset.open(large)
    texts = [query.text for query in data.queries]
    with find_dataset_index(data, "base") as index:
        assert index.searcher.snapshot.rotation_id is not None
        ranked = index.searcher.rank(texts, 100, Options("dense", 8))
    run = {q.id: {r.id: r.score for r in rs} for q, rs in zip(data.queries, ranked, strict=True)}
    values = evaluate_run(data.qrels, run, ["ndcg@10"]).per_query("ndcg@10")
    np.testing.assert_array_equal(row.base.evaluation.per_query("ndcg@10"), values)
    with find_dataset_index(data, "tuned") as index:
        assert index.searcher.snapshot.rotation_id is None


def test_queries_are_encoded_once_and_indexes_are_kept(fakes, large):
    judge("base", "tuned", large)
    calls = [encoder.calls for encoder in fakes.values()]
    asked = [query.text for query in BeirDataset.open(large).queries]
    assert [encoder.queries for encoder in fakes.values()] == [asked, asked]
    done: list[int] = []
    judge("base", "tuned", large, progress=done.append)
    assert done == [], "the corpus is indexed already"
    assert [encoder.calls for encoder in fakes.values()] == [call + 1 for call in calls]


def test_an_index_is_made_anew_on_request(fakes, large):
    data = BeirDataset.open(large)
    assert not is_complete(find_dataset_index(data, "base"))
    for fresh, documents in ((False, 400), (False, 400), (True, 800)):
        with open_dataset_index(data, "base", fresh=fresh) as index:
            assert len(index) == 400
            assert is_complete(index)
        assert len(fakes["base"].documents) == documents


# What is shown


def test_the_table(better):
    lines = verdict_lines(better, moved=2)
    marked = verdict_lines(better, lambda text: f"<{text}>", moved=2)
    assert [line.replace("<0.001", "0.001").count("<") for line in marked[:6]] == [0, 2, 2, 2, 2, 0]
    assert " ".join(lines[0].split()) == (
        "ndcg@10 base tuned difference p wins/ties/losses base keeps tuned keeps verdict"
    )
    assert [line.split()[0] for line in lines[1:5]] == pipelines(better)
    assert all(line.endswith("BETTER") for line in lines[1:5])
    assert lines[1].split()[1] == f"{better.rows[0].base.mean:.3f}"
    assert all(line.endswith("<BETTER>") for line in marked[1:5])
    assert lines[6].startswith(f"{QUERIES} queries of split test; [low, high]: 95 %")
    assert lines[6].endswith("Holm-corrected over 4 rows")
    assert lines[8].startswith("BETTER: dense@64, +0.")
    assert lines[8].endswith(" ndcg@10, p < 0.001")
    assert lines[9] == "1 query left out: no document is judged relevant"
    assert "the queries that moved most from base to tuned (dense@64, ndcg@10)" in lines
    assert all(len(line) <= 100 for line in lines[-4:])
    assert str(better) == "\n".join(verdict_lines(better))


def test_what_else_differs_is_told(better):
    odd = replace(better, tuned=replace(better.tuned, missing_documents=2, tuned_ranking=True))
    lines = verdict_lines(odd)
    assert "tuned: 2 relevant documents cannot be found: not in the corpus" in lines
    assert "tuned: its index ranks as `semsearch tune` has set it (hybrid)" in lines


def test_the_json_of_a_verdict(better, ruined):
    found = better.to_json(moved=2)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["verdict"], found["measure"], found["split"]) == ("BETTER", "ndcg@10", "test")
    assert (found["queries"], found["skipped"]) == (QUERIES, 1)
    assert found["base"] == {
        "model": str(ruined),
        "dims": 64,
        "missing_documents": 0,
        "tuned_ranking": False,
    }
    row = found["rows"][1]
    assert (row["pipeline"], row["mode"], row["verdict"]) == ("dense@32", "dense", "BETTER")
    assert row["tuned"].keys() == {"dims", "mean", "interval", "kept"}
    assert row["p_holm"] == better.rows[1].change.p_holm
    assert 2 <= len(row["moved"]) <= 4
    assert found["rows"][-1]["tuned"]["kept"] is None


# As served


def cells(line):
    assert line.startswith("| ")
    assert line.endswith(" |")
    return [cell.strip() for cell in line[1:-1].split("|")]


def test_the_quality_of_the_tuned_model_as_it_is_served(better, labelled):
    rows = served_quality(better)
    assert [row.pipeline for row in rows] == pipelines(better)
    for row, judged in zip(rows, better.rows, strict=True):
        assert row.metrics["ndcg@10"] == judged.tuned.mean
        assert row.metrics.keys() == row.intervals.keys() == set(SERVED_MEASURES)
        assert (row.kind, row.ann_recall) == ("exact", 1.0)
    assert [row.disk for row in rows[:3]] == [128, 64, 32], "two bytes a component"
    assert [row.ram for row in rows] == [128, 64, 32, 128]
    assert rows[3].disk > 128, "words and token vectors too"
    assert (rows[0].rerank, rows[3].rerank) == ("none", "self")
    with Index(better.tuned.index, None) as index:
        assert served_quality(index, labelled) == rows
        assert served_quality(index, labelled, dims=[16]) == rows[2:]
        with pytest.raises(UsageError, match="dims must be between 1 and 64"):
            served_quality(index, labelled, dims=[65])
        with pytest.raises(UsageError, match="name the dataset too"):
            served_quality(index)
    found = [row.to_json() for row in rows]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_table_of_a_card(better):
    rows = served_quality(better)
    text = served_markdown([*rows, replace(rows[0], kind="a|b")])
    head, rule, *lines = text.split("\n\n")[0].splitlines()
    assert cells(head) == [
        "pipeline",
        "index",
        "bytes on disk",
        "bytes in RAM",
        "recall@10 of the index",
        "nDCG@10",
        "MRR@10",
        "accuracy@1",
        "recall@100",
    ]
    assert cells(rule) == [":--"] * 2 + ["--:"] * 7
    assert [cells(line)[0] for line in lines] == [
        "dense@64",
        "dense@32",
        "dense@16",
        "hybrid + self",
        "dense@64",
    ]
    assert all(len(cells(line)) == 9 for line in lines[:-1])
    assert "| a\\|b |" in lines[-1]
    low, high = rows[1].intervals["ndcg@10"]
    assert cells(lines[1])[5] == f"{rows[1].metrics['ndcg@10']:.3f} [{low:.3f}, {high:.3f}]"
    assert served_markdown([]).count("|") == 20


def test_a_large_index_is_quantised_and_says_so(tmp_path, fakes, monkeypatch):
    lower_limits(monkeypatch, 200)
    fakes["tuned"] = FakeEncoder(64, "large", matryoshka_dims=(64, 32))
    documents = make_documents(1500, seed=8)
    queries = {f"q{n}": documents[n].text for n in range(0, 1500, 50)}
    qrels = {f"q{n}": {documents[n].id: 1} for n in range(0, 1500, 50)}
    folder = write_set(tmp_path / "set", documents, queries, qrels)
    rows = served_quality(judge("tuned", "tuned", folder))
    assert [row.pipeline for row in rows] == ["dense@64", "dense@32", "hybrid"]
    assert (rows[0].kind, rows[2].kind) == ("RR,IVF1,RaBitQfs", "RR,IVF1,RaBitQfs")
    assert rows[1].kind == "exact", "FAISS's recall was not measured there"
    assert 0.9 < rows[0].ann_recall <= 1.0
    assert rows[1].ann_recall == 1.0
    assert rows[0].ram < 128 < rows[0].disk
    assert rows[0].disk == 128 + rows[0].ram
    assert rows[1].ram == 64


# What cannot be judged


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "best"}, "unknown measure 'best'"),
        ({"dims": [64, 65]}, "dims must be between 1 and 64, the width of {good}, not 65"),
        ({"dims": [0]}, "dims must be between 1 and 64, the width of {good}, not 0"),
        ({"split": "dev"}, "no split 'dev': there is test"),
    ],
)
def test_what_makes_no_sense(good, wide, labelled, options, message):
    with pytest.raises((UsageError, NotFound)) as caught:
        judge(good, wide, labelled, **options)
    assert message.format(good=good) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_models_that_are_not_there(good, home, labelled):
    with pytest.raises(NotFound) as caught:
        judge(good, home / "none", labelled)
    assert str(caught.value) == f"{home / 'none'}: no such model folder"
    (home / "empty").mkdir()
    with pytest.raises(ModelError) as failed:
        judge(home / "empty", good, labelled)
    assert str(failed.value).startswith(f"{home / 'empty'}: not a sentence-transformers model")


def test_sets_that_cannot_be_measured_are_not_indexed(good, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMSEARCH_CACHE", str(tmp_path / "cache"))
    documents = make_documents(3)
    folder = write_set(tmp_path / "set", documents, {"q": "bal"}, {"q": {documents[0].id: 0}})
    with pytest.raises(InputError, match="no query has a relevant document"):
        judge(good, good, folder)
    with pytest.raises(UsageError, match="the judgements alone say nothing to search for"):
        judge(good, good, folder / "qrels" / "test.tsv")
    with pytest.raises(NotFound, match="no such folder"):
        judge(good, good, tmp_path / "none")
    (folder / "corpus.jsonl").unlink()
    (folder / "qrels" / "test.tsv").write_text("q\td0\t1\n")
    with pytest.raises(NotFound, match="no corpus.jsonl in this folder"):
        judge(good, good, folder)
    assert not (tmp_path / "cache" / "datasets").exists()


def test_a_corpus_without_any_relevant_document(fakes, tmp_path):
    folder = write_set(tmp_path / "set", make_documents(3), {"q": "bal"}, {"q": {"elsewhere": 1}})
    with pytest.raises(InputError, match="none of the 1 relevant documents is in"):
        judge("base", "tuned", folder)
