"""MTEB evaluates our encoder and our indexes, and finds our numbers.

The first half holds without mteb: it calls the models as MTEB 2.26.24 does. The second half runs
MTEB itself where it is installed (``make interop``).
"""

import importlib.util
import inspect
import json
import logging
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semsearch.corpus import BeirDataset, write_beir
from semsearch.errors import MissingExtra, NotFound, UsageError
from semsearch.evaluation import evaluate
from semsearch.evaluation import mteb as adapter
from semsearch.evaluation.measure import Measuring
from semsearch.evaluation.mteb import mteb_encoder, mteb_index, mteb_pipeline
from semsearch.evaluation.mteb_task import mteb_task
from semsearch.metrics import evaluate_run
from semsearch.search import Options
from semsearch.types import Document, Query
from tests.fakes import FakeEncoder, index_into, make_documents, opened
from tests.test_corpus_beir import DATASETS

# The parameters of mteb's protocols, in version 2.26.24. Without `self` and catch-alls.
PROTOCOLS = {
    "EncoderProtocol": {
        "encode": ["inputs", "task_metadata", "hf_split", "hf_subset", "prompt_type"],
        "similarity": ["embeddings1", "embeddings2"],
        "similarity_pairwise": ["embeddings1", "embeddings2"],
    },
    "SearchProtocol": {
        "index": ["corpus", "task_metadata", "hf_split", "hf_subset", "encode_kwargs", "num_proc"],
        "search": [
            *["queries", "task_metadata", "hf_split", "hf_subset", "top_k", "encode_kwargs"],
            *["top_ranked", "num_proc"],
        ],
    },
}
NOT_HERE = "MTEB IS NOT INSTALLED: `make interop` runs it"
HERE = importlib.util.find_spec("mteb") is not None
needs_mteb = pytest.mark.skipif(not HERE, reason=NOT_HERE)


@dataclass
class Metadata:
    """What our models look at of a task's metadata."""

    name: str = "Task"


def fake() -> Any:
    return FakeEncoder()


def called(**options):
    """The keywords that MTEB adds to every call."""
    told = {"task_metadata": Metadata(), "hf_split": "test", "hf_subset": "default"}
    return {**told, "encode_kwargs": {"batch_size": 32}, "num_proc": None, **options}


DOCUMENTS = make_documents(150)
QUERIES = [Query(f"q{n}", " ".join(d.text.split()[:3])) for n, d in enumerate(DOCUMENTS[::5])]
QUERIES += [Query("d0007", DOCUMENTS[7].text)]  # an id that a document has, too
QRELS = {
    query.id: {d.id: (1, 2, 0, -1)[n % 4] for n, d in enumerate(DOCUMENTS[i * 3 : i * 3 + 9])}
    | {DOCUMENTS[i * 5 % 150].id: 3, "gone": 1}
    for i, query in enumerate(QUERIES)
}


def rows(documents=DOCUMENTS):
    return [{"id": d.id, "title": d.title, "text": d.text} for d in documents]


def asked(queries=QUERIES):
    return [{"id": query.id, "text": query.text} for query in queries]


@pytest.fixture
def index(tmp_path):
    index_into(tmp_path / "made.idx", FakeEncoder(), DOCUMENTS)
    with opened(tmp_path / "made.idx", FakeEncoder()) as index:
        yield index


@pytest.fixture
def dataset(tmp_path):
    write_beir(tmp_path / "set", DOCUMENTS, QUERIES, {"test": QRELS})
    return BeirDataset.open(tmp_path / "set")


# As MTEB calls


def test_the_models_take_what_mteb_gives(index):
    models = {
        "EncoderProtocol": mteb_encoder(fake()),
        "SearchProtocol": mteb_index(index),
    }
    for protocol, methods in PROTOCOLS.items():
        for name, parameters in methods.items():
            signature = inspect.signature(getattr(models[protocol], name))
            signature.bind(**dict.fromkeys(parameters))


def test_an_encoder_knows_queries_from_documents():
    encoder = fake()
    model = mteb_encoder(encoder)
    texts = ["one", "two words", "three words here"]
    batches = [{"text": texts[:2], "id": ["a", "b"]}, {"text": texts[2:], "title": ["t"]}]
    for kind, seen in (("query", "queries"), ("document", "documents"), (None, "documents")):
        encoder.queries, encoder.documents = [], []
        found = model.encode(iter(batches), prompt_type=kind, batch_size=32, **called())
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, [encoder.vector(text) for text in texts])
        assert getattr(encoder, seen) == texts
        assert len(encoder.queries + encoder.documents) == 3


def test_similarities_are_cosines():
    random = np.random.default_rng(1)
    a = random.standard_normal((3, 8)).astype(np.float32)
    b = random.standard_normal((3, 8)).astype(np.float32)
    model = mteb_encoder(fake())
    wanted = (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(model.similarity(a, b).numpy(), wanted, atol=1e-6)
    np.testing.assert_allclose(model.similarity(a[0], b).numpy(), wanted[:1], atol=1e-6)
    found = model.similarity_pairwise(a, b).numpy()
    np.testing.assert_allclose(found, np.diag(wanted), atol=1e-6)


@pytest.mark.parametrize("options", [Options(), Options("dense", dims=8), Options("lexical")])
def test_an_index_is_searched_as_it_searches(index, options):
    model = mteb_index(index, options)
    model.index(rows(), **called())
    run = model.search(asked(), top_k=1000, top_ranked=None, **called())
    texts = [query.text for query in QUERIES]
    rankings = index.searcher.rank(texts, 100, options)
    assert run == {
        query.id: {hit.id: hit.score for hit in ranking}
        for query, ranking in zip(QUERIES, rankings, strict=True)
    }
    assert max(map(len, run.values())) == 100
    assert all(type(score) is float for of_query in run.values() for score in of_query.values())
    few = model.search(asked(), top_k=7, **called())
    assert {query: list(of_query)[:7] for query, of_query in run.items()}.keys() == few.keys()
    assert max(map(len, few.values())) == 7


def test_a_task_of_reranking_keeps_to_its_documents(index):
    model = mteb_index(index)
    model.index(rows(), **called())
    given = {"q0": ["d0003", "d0000", "d0149", "nowhere"], "q1": []}
    found = model.search(asked(QUERIES[:3]), top_k=2, top_ranked=given, **called())
    whole = index.searcher.rank([QUERIES[0].text], 150)[0]
    wanted = [hit for hit in whole if hit.id in given["q0"]][:2]
    assert found == {"q0": {hit.id: hit.score for hit in wanted}, "q1": {}, "q2": {}}
    assert len(found["q0"]) == 2


def test_an_instruction_follows_the_query(index):
    model = mteb_index(index, Options("lexical"))
    model.index(rows(), **called())
    split = [{"id": "q", "text": "bal", "instruction": "car dil"}, {"id": "r", "text": "bal car"}]
    run = model.search([*split, {"id": "s", "text": "bal car dil"}], top_k=9, **called())
    assert run["q"] == run["s"] != run["r"]


def test_an_index_must_hold_the_corpus_and_nothing_else(index, caplog):
    model = mteb_index(index)
    with pytest.raises(UsageError) as caught:
        model.index(rows(DOCUMENTS[2:]), **called())
    assert str(caught.value) == (
        f"{index.folder}: 2 of its documents are not in the task's corpus, 'd0000' first:"
        " index that corpus alone"
    )
    with pytest.raises(NotFound, match="no corpus was indexed"):
        model.search(asked(), top_k=10, **called())
    more = [*DOCUMENTS, Document("new", "text")]
    with caplog.at_level(logging.WARNING, logger="semsearch"):
        model.index(rows(more), **called())
    assert caplog.messages == [f"{index.folder}: 1 documents of the task's corpus are missing"]


def test_there_must_be_an_index(tmp_path):
    with pytest.raises(NotFound, match="no index there"):
        mteb_index(opened(tmp_path / "none.idx", FakeEncoder()))


def test_every_corpus_gets_an_index_of_its_own(tmp_path, monkeypatch):
    # The pipeline with a real model is in the last test here.
    monkeypatch.setattr(adapter, "open_encoder", lambda model: fake())
    monkeypatch.setattr(adapter, "Index", lambda folder, model: opened(folder, fake()))
    model = mteb_pipeline(tmp_path / "indexes", "fake", Options("dense"))
    few = DOCUMENTS[:6]
    model.index(rows(few), **called(task_metadata=Metadata("One"), hf_subset="en/de"))
    assert set(model.search(asked()[:1], top_k=9, **called())["q0"]) == {d.id for d in few}
    model.index(rows(DOCUMENTS[6:9]), **called(task_metadata=Metadata("Two")))
    assert len(model.search(asked()[:1], top_k=9, **called())["q0"]) == 3
    made = sorted(path.name for path in (tmp_path / "indexes").iterdir())
    assert made == ["One-en-de-test", "Two-default-test"]
    # The same corpus again, with one document changed and two gone.
    again = [Document("d0000", "other words"), *few[1:4]]
    model.index(rows(again), **called(task_metadata=Metadata("One"), hf_subset="en/de"))
    assert set(model.search(asked()[:1], top_k=9, **called())["q0"]) == {d.id for d in again}
    assert sorted(path.name for path in (tmp_path / "indexes").iterdir()) == made


@pytest.mark.parametrize("bad", [None, ["a", "conversation"], {"array": []}])
def test_what_is_not_text_is_refused(index, bad):
    expected = f"this task holds {type(bad).__name__} where semsearch takes text alone"
    model = mteb_index(index)
    model.index(rows(), **called())
    with pytest.raises(UsageError, match=expected):
        model.search([{"id": "q", "text": bad}], top_k=10, **called())
    with pytest.raises(UsageError, match=expected):
        mteb_encoder(fake()).encode([{"text": [bad]}], **called())
    with pytest.raises(UsageError, match="vectors for MTEB are float32, not int8"):
        mteb_encoder(fake()).encode([{"text": ["x"]}], precision="int8", **called())


@pytest.mark.skipif(HERE, reason="mteb is installed")
def test_a_description_needs_mteb(index, dataset):
    for model in (mteb_index(index), mteb_encoder(fake())):
        with pytest.raises(MissingExtra) as caught:
            model.mteb_model_meta  # noqa: B018
        assert str(caught.value) == "describing a model to MTEB needs mteb: pip install mteb"
    with pytest.raises(MissingExtra, match="^a task of MTEB needs mteb: pip install mteb$"):
        mteb_task(dataset)


def test_mteb_is_not_loaded_before_it_asks():
    code = (
        "import sys, semsearch.evaluation, semsearch.evaluation.mteb;"
        "print([name for name in sys.modules if name.split('.')[0] in ('mteb', 'torch')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# MTEB itself


def scores_of(model: Any, task: Any) -> dict[str, float]:
    """What MTEB finds, under our names of the measures: ``ndcg@10`` for its ``ndcg_at_10``."""
    import mteb

    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)
    (scores,) = result.task_results[0].scores.values()
    ours = {"hit_rate": "accuracy"}
    values = {}
    for name, value in scores[0].items():
        measure, at, k = name.rpartition("_at_")
        if at and not name.startswith("nauc"):
            values[f"{ours.get(measure, measure)}@{k}"] = value
    return values


@pytest.fixture
def calm():
    """MTEB and what it loads warn about themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def assert_same(theirs, ours):
    """MTEB rounds to five places."""
    assert theirs.keys() >= ours.keys()
    assert {name: theirs[name] for name in ours} == pytest.approx(ours, abs=5.01e-6)
    assert 0 < ours["ndcg@10"] < 1


@needs_mteb
def test_the_protocols_are_those_that_were_recorded(calm):
    from mteb.models import models_protocols

    for protocol, methods in PROTOCOLS.items():
        for name, recorded in methods.items():
            method = getattr(getattr(models_protocols, protocol), name)
            parameters = inspect.signature(method).parameters.values()
            names = [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
            assert names == ["self", *recorded]


@needs_mteb
def test_mteb_knows_the_models(calm, index):
    from mteb.models import EncoderProtocol, SearchProtocol

    encoder, search = mteb_encoder(fake()), mteb_index(index, Options("lexical", dims=8))
    assert isinstance(encoder, EncoderProtocol)
    assert not isinstance(encoder, SearchProtocol)
    assert isinstance(search, SearchProtocol)
    assert not isinstance(search, EncoderProtocol)
    meta = encoder.mteb_model_meta
    assert (meta.name, meta.embed_dim, meta.max_tokens) == ("semsearch/fake", 32, 64)
    assert (meta.revision, meta.experiment_kwargs) == (FakeEncoder().fingerprint[:12], None)
    half = fake()
    half.precision = "bf16"
    assert mteb_encoder(half).mteb_model_meta.experiment_kwargs == {"precision": "bf16"}
    assert search.mteb_model_meta.revision.startswith(f"{meta.revision}-semsearch-")
    assert search.mteb_model_meta.experiment_kwargs == {
        "mode": "lexical",
        "dims": "8",
        "depth": 100,
    }
    assert json.loads(search.mteb_model_meta.model_dump_json())["model_type"] == ["sparse"]


@needs_mteb
@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
@pytest.mark.parametrize("ignore", [False, True])
def test_mteb_finds_our_numbers_for_an_index(calm, index, dataset, mode, ignore):
    task = mteb_task(dataset)
    task.ignore_identical_ids = ignore
    theirs = scores_of(mteb_index(index, Options(mode)), task)
    measuring = Measuring(ignore_identical_ids=ignore)
    report = evaluate(index, dataset, modes=[mode], measuring=measuring)
    assert_same(theirs, dict(report.results[0].metrics))


@needs_mteb
def test_mteb_finds_our_numbers_for_an_encoder(calm, dataset):
    encoder = fake()
    theirs = scores_of(mteb_encoder(encoder), mteb_task(dataset))
    vectors = np.array([encoder.vector(d.content) for d in DOCUMENTS])
    run = {}
    for query in QUERIES:
        scores = (vectors @ encoder.vector(query.text)).tolist()
        run[query.id] = {d.id: score for d, score in zip(DOCUMENTS, scores, strict=True)}
    assert_same(theirs, evaluate_run(QRELS, run).means())


@needs_mteb
def test_mteb_reranks_with_an_index(calm, index, dataset):
    given = {query.id: [d.id for d in DOCUMENTS[n::7]] for n, query in enumerate(QUERIES)}
    task = mteb_task(dataset)
    task.load_data()
    task.dataset["default"]["test"]["top_ranked"] = given
    theirs = scores_of(mteb_index(index), task)
    run = {
        query.id: {
            hit.id: hit.score
            for hit in index.searcher.rank([query.text], 150)[0]
            if hit.id in given[query.id]
        }
        for query in QUERIES
    }
    assert_same(theirs, evaluate_run(QRELS, run).means())


@needs_mteb
@pytest.mark.slow
def test_mteb_finds_our_numbers_on_a_real_set(calm, tmp_path):
    folder: Path = DATASETS / "faquad-pt"
    if not folder.is_dir():
        pytest.skip(f"THE DATASET faquad-pt IS NOT AT HAND: looked in {DATASETS}")
    data = BeirDataset.open(folder)
    task = mteb_task(data, language="por-Latn")
    model = mteb_pipeline(tmp_path, "all-MiniLM-L6-v2")
    theirs = scores_of(model, task)
    import semsearch

    with semsearch.open(tmp_path / f"faquad-pt-default-{data.split}") as index:
        report = evaluate(index, data, modes=["hybrid", "dense"], dims=[384])
    hybrid, dense = (dict(row.metrics) for row in report.results)
    assert_same(theirs, hybrid)
    # An index keeps its vectors in half precision: near ties may change places.
    alone = scores_of(mteb_encoder("all-MiniLM-L6-v2"), task)
    assert {name: alone[name] for name in dense} == pytest.approx(dense, abs=1e-3)
