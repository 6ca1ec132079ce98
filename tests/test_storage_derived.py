"""Derived files: when they are made, what is recorded of them, and what happens without them."""

import errno
import json
import os
import sqlite3
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import IO, cast

import numpy as np
import pytest

from semsearch import fs
from semsearch.collection import beside, lexical_cache, vector_build, vector_cache
from semsearch.collection.backup import _copy, back_up, own_bytes
from semsearch.collection.beside import (
    beside_of,
    choices_of,
    forget_beside,
    plain_choices,
    settle,
    size_of,
    token_choice,
)
from semsearch.collection.check import check_index
from semsearch.collection.language import (
    choose_language,
    detected_language,
    recorded_language,
)
from semsearch.collection.layout import Layout
from semsearch.collection.lexical_cache import (
    build_lexical_cache,
    open_lexical,
    uncovered_passages,
    words_language,
)
from semsearch.collection.maintain import compact, fit_rotation_if_due, merge_segments
from semsearch.collection.reader import Reader, StaleSnapshot
from semsearch.collection.reading import Reading
from semsearch.collection.token_fill import fill_tokens
from semsearch.collection.vector_build import (
    build_vector_cache,
    choose_kind,
    choose_recall,
    wanted_recall,
)
from semsearch.collection.vector_cache import CoveredIndex, covers, open_vectors, valid_cache
from semsearch.collection.writer import collect_garbage, open_for_writing
from semsearch.errors import Corrupt, NotFound, StorageError, UsageError
from semsearch.index.contract import ArrayRows
from semsearch.index.exact import ExactIndex
from semsearch.indexing import choose_long_text
from semsearch.lexical import files
from semsearch.store import catalog, passages
from semsearch.store.database import open_reader
from semsearch.types import Document
from tests.fakes import FakeEncoder, index_into, lower_limits, make_documents
from tests.store_model import DIM, TOKENS, assert_holds, encoder_row, put, small_sizes

ENCODER = FakeEncoder(64)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "idx"


@pytest.fixture
def writer(folder):
    """An index of 40 documents with words, open for writing."""
    index_into(folder, ENCODER, make_documents(40))
    with open_for_writing(Layout(folder)) as writer:
        yield writer


def never(_, kind=None):
    pytest.fail("nothing was replaced")


def generation(writer):
    return writer.snapshot.generation.gen


# Words.


def test_words_that_are_all_there_are_not_written_again(writer):
    before = generation(writer)
    build_lexical_cache(writer)
    assert generation(writer) == before
    build_lexical_cache(writer, force=True)
    assert generation(writer) == before + 1
    row = writer.snapshot.cache("lexical")
    assert (row.name, row.covers, row.params, row.gen) == ("lex", "{}", "{}", before)


def test_words_are_added_to_those_that_are_there(writer, monkeypatch):
    first = json.loads(writer.snapshot.cache("lexical").files)
    assert first["last_vid"] == writer.snapshot.last_vid == 40
    index_more(writer, [Document("new", "zork zork", "", {}, "c")])
    assert uncovered_passages(writer.snapshot) == 1
    added = []
    real = lexical_cache._texts

    def texts(connection, after, snapshot):
        for found in real(connection, after, snapshot):
            added.append((after, found[0].tolist(), found[1]))
            yield found

    monkeypatch.setattr(lexical_cache, "_texts", texts)
    build_lexical_cache(writer)
    assert added == [(40, [41], ["zork zork"])]
    assert uncovered_passages(writer.snapshot) == 0
    assert json.loads(writer.snapshot.cache("lexical").files)["last_vid"] == 41


def index_more(writer, documents):
    from semsearch.collection.changes import Change, NewPassage
    from semsearch.store.passages import text_hash

    changes = []
    for document in documents:
        vector = writer.stored(ENCODER.vector(document.content)[None])[0]
        end = len(document.content)
        one = NewPassage(0, end, text_hash(document.content), vector, 3, 0, False)
        changes.append(Change(document, (one,)))
    return writer.commit(changes)


def test_words_that_wait_are_found_all_the_same(writer):
    index_more(writer, [Document("new", "zork zork", "", {}, "c")])
    view = open_lexical(writer.snapshot, writer.connection, lambda *_: None)
    assert view is not None
    assert view.search(["zork", "title"], 3).ids.shape == (2, 3)
    assert view.search(["zork"], 3).ids[0].tolist() == [41, -1, -1]
    found = view.search(["title"], 100).ids[0]
    assert sorted(found[found >= 0].tolist()) == list(range(1, 41))
    few = view.search(["title zork"], 100, np.array([3, 7, 41])).ids[0]
    assert sorted(few[few >= 0].tolist()) == [3, 7, 41]
    writer.delete(["new", "d0002"])
    view = open_lexical(writer.snapshot, writer.connection, lambda *_: None)
    assert view is not None
    assert view.search(["zork"], 3).ids[0].tolist() == [-1, -1, -1]
    found = view.search(["title"], 100).ids[0]
    assert sorted(found[found >= 0].tolist()) == [1, 2, *range(4, 41)]


def test_without_a_record_every_word_is_indexed_in_memory(writer):
    with writer.generation():
        catalog.drop_cache(writer.connection, "lexical")
    writer.refresh()
    view = open_lexical(writer.snapshot, writer.connection, lambda *_: None)
    assert view is not None
    found = view.search(["title"], 100).ids[0]
    assert sorted(found[found >= 0].tolist()) == list(range(1, 41))


def test_texts_come_in_batches(writer, monkeypatch):
    monkeypatch.setattr(lexical_cache, "_BATCH", 16)
    found = list(lexical_cache._texts(writer.connection, 3, writer.snapshot))
    assert [len(vids) for vids, _ in found] == [16, 16, 5]
    assert np.concatenate([vids for vids, _ in found]).tolist() == list(range(4, 41))
    documents = make_documents(40)
    assert [text for _, texts in found for text in texts] == [d.content for d in documents[3:]]
    assert list(lexical_cache._texts(writer.connection, 40, writer.snapshot)) == []


def test_without_tantivy_words_wait_until_it_is_there(writer, monkeypatch, caplog):
    with writer.generation():
        catalog.drop_cache(writer.connection)
    writer.refresh()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tantivy", None)
        before = generation(writer)
        build_lexical_cache(writer)
        assert generation(writer) == before
        assert "pip install tantivy; until then searches are dense only" in caplog.text
        assert open_lexical(writer.snapshot, writer.connection, lambda *_: None) is None
        assert "pip install tantivy; searching dense only" in caplog.text
    build_lexical_cache(writer)
    assert writer.snapshot.cache("lexical") is not None


def test_damaged_words_are_indexed_again_in_memory(writer, caplog):
    for path in writer.layout.lexical.iterdir():
        if path.is_file():
            path.write_bytes(b"x")
    asked = []
    view = open_lexical(writer.snapshot, writer.connection, lambda *what: asked.append(what[1:]))
    assert view is not None
    found = view.search(["title"], 100).ids[0]
    assert sorted(found[found >= 0].tolist()) == list(range(1, 41))
    assert asked[0] == ("lexical",)
    assert "indexing the words again in memory: `semsearch compact` repairs it" in caplog.text

    def stale(*_):
        raise StaleSnapshot

    with pytest.raises(StaleSnapshot):
        open_lexical(writer.snapshot, writer.connection, stale)


def test_words_of_another_version_are_as_good_as_none(writer):
    row = writer.snapshot.cache("lexical")
    state = json.loads(row.files)
    state["tokens_version"] += 1
    with writer.generation():
        other = catalog.CacheRow("lex", "lexical", json.dumps(state), "{}", "{}", 1)
        catalog.put_cache(writer.connection, other)
    writer.refresh()
    assert uncovered_passages(writer.snapshot) == 40
    build_lexical_cache(writer)
    assert uncovered_passages(writer.snapshot) == 0


def test_an_index_without_passages_has_no_words(folder):
    with open_for_writing(Layout(folder)) as writer:
        build_lexical_cache(writer)
        assert generation(writer) == 0
        view = open_lexical(writer.snapshot, writer.connection, never)
        assert view is not None
        found = view.search(["a", "b"], 3)
        assert found.ids.tolist() == [[-1] * 3] * 2
        assert uncovered_passages(writer.snapshot) == 0
        assert words_language(writer.snapshot, writer.connection) is None
        assert detected_language(writer) == "en"


def test_words_of_documents_that_are_gone_are_cleared(writer):
    writer.delete([d.id for d in make_documents(40)])
    compact(writer)
    (writer.layout.lexical / "folder").mkdir()
    before = generation(writer)
    build_lexical_cache(writer)
    assert writer.snapshot.cache("lexical") is None
    assert [path.name for path in writer.layout.lexical.iterdir()] == ["folder"]
    assert generation(writer) == before  # compacting dropped the record already


def test_a_language_is_detected_once_and_chosen_at_any_time(writer):
    assert recorded_language(writer.connection) is not None
    choose_language(writer, "de")
    assert recorded_language(writer.connection) == "de"
    changes = writer.connection.total_changes
    choose_language(writer, "de")
    assert writer.connection.total_changes == changes
    assert words_language(writer.snapshot, writer.connection) != "de"  # those that are there
    before = generation(writer)
    build_lexical_cache(writer)
    assert generation(writer) == before + 1
    assert words_language(writer.snapshot, writer.connection) == "de"
    with pytest.raises(UsageError):
        choose_language(writer, "klingon")


def test_a_language_is_detected_from_what_is_live(folder):
    german = [
        Document(f"g{n}", "der Hund und die Katze sind nicht im Haus, sondern draußen " * 3, "")
        for n in range(20)
    ]
    english = [
        Document(f"e{n}", "the dog and the cat are not in the house but outside of it " * 3, "")
        for n in range(60)
    ]
    index_into(folder, ENCODER, [*english, *german])
    with open_for_writing(Layout(folder)) as writer:
        assert recorded_language(writer.connection) == "en"
        assert detected_language(writer) == "en"
        writer.delete([document.id for document in english])
        assert detected_language(writer) == "de"


def test_a_language_is_detected_from_a_sample_that_is_spread_evenly(writer, monkeypatch):
    read = []
    real = passages.passage_texts

    def texts(connection, after, up_to, gen):
        read.append((after, up_to))
        return real(connection, after, up_to, gen)

    monkeypatch.setattr(passages, "passage_texts", texts)
    monkeypatch.setattr("semsearch.lexical.detect.SAMPLE", 4)
    detected_language(writer)
    assert read == [(vid - 1, vid) for vid in (1, 14, 27, 40)]
    read.clear()
    writer.delete(["d0000", "d0039"])
    detected_language(writer)
    assert [read[0][1], read[-1][1]] == [2, 39]


# Vectors.


def kind_of_vectors(writer):
    return open_vectors(writer.snapshot).kind


def test_small_indexes_need_no_faiss(writer, monkeypatch):
    build_vector_cache(writer)
    assert writer.snapshot.cache("faiss") is None
    lower_limits(monkeypatch, 40)
    build_vector_cache(writer)
    assert writer.snapshot.cache("faiss") is None
    lower_limits(monkeypatch, 39)
    build_vector_cache(writer)
    row = writer.snapshot.cache("faiss")
    assert row is not None
    assert json.loads(row.covers) == {
        "n": 40, "last_vid": 40, "rotation_id": writer.snapshot.rotation_id,
        "dim": writer.snapshot.rows.dim, "encoder_id": 1,
    }  # fmt: skip
    path = writer.layout.ann / row.name
    assert json.loads(row.files) == {row.name: fs.sha256_of(path)}
    assert row.name == f"a-{fs.sha256_of(path)[:24]}.faiss"
    assert row.gen == generation(writer) - 1
    assert kind_of_vectors(writer) != "exact"
    lower_limits(monkeypatch, 40)
    build_vector_cache(writer)
    assert writer.snapshot.cache("faiss") is None
    assert list(writer.layout.ann.iterdir()) == []


def test_faiss_is_built_again_once_too_much_is_not_in_it(writer, monkeypatch):
    lower_limits(monkeypatch, 10)
    monkeypatch.setattr(vector_build, "UNCOVERED_ROWS", 5)
    monkeypatch.setattr(vector_build, "UNCOVERED_SHARE", 0.1)
    build_vector_cache(writer)
    first = writer.snapshot.cache("faiss")
    more = [Document(f"m{n}", f"word{n}", "", {}, "c") for n in range(6)]
    index_more(writer, more[:5])
    build_vector_cache(writer)
    assert writer.snapshot.cache("faiss") == first
    index_more(writer, more[5:])
    build_vector_cache(writer)
    assert json.loads(writer.snapshot.cache("faiss").covers)["n"] == 46
    monkeypatch.setattr(vector_build, "UNCOVERED_SHARE", 0.5)
    index_more(writer, [Document(f"n{n}", f"words{n}", "", {}, "c") for n in range(9)])
    second = writer.snapshot.cache("faiss")
    build_vector_cache(writer)
    assert writer.snapshot.cache("faiss") == second
    build_vector_cache(writer, force=True)
    assert json.loads(writer.snapshot.cache("faiss").covers)["n"] == 55


def test_what_is_not_in_faiss_is_found_all_the_same(writer, monkeypatch):
    lower_limits(monkeypatch, 10)
    build_vector_cache(writer)
    index_more(writer, [Document(f"m{n}", f"word{n}", "", {}, "c") for n in range(5)])
    mixed, exact = open_vectors(writer.snapshot, never), ExactIndex(writer.snapshot.rows)
    assert isinstance(mixed, CoveredIndex)
    monkeypatch.setattr(mixed, "_whole", SimpleNamespace(rows=writer.snapshot.rows, search=never))
    queries = writer.snapshot.rows.take(np.array([0, 17, 39, 40, 44]))
    for allowed in (None, np.arange(45) % 3 == 0, np.arange(45) >= 40, np.arange(45) < 40):
        wanted, found = (index.search(queries, 7, allowed) for index in (exact, mixed))
        np.testing.assert_array_equal(found.ids, wanted.ids)
        np.testing.assert_array_equal(found.scores, wanted.scores)


def test_another_target_builds_faiss_anew(writer, monkeypatch):
    lower_limits(monkeypatch, 10)
    build_vector_cache(writer)
    before = generation(writer)
    build_vector_cache(writer)
    choose_recall(writer, wanted_recall(writer.connection))
    assert generation(writer) == before
    choose_recall(writer, 0.5)
    assert wanted_recall(writer.connection) == 0.5
    build_vector_cache(writer)
    assert json.loads(writer.snapshot.cache("faiss").params)["target"] == 0.5
    choose_recall(writer, 1)
    build_vector_cache(writer)
    assert writer.snapshot.cache("faiss") is None
    for wrong in (0.49, 1.01, float("nan")):
        with pytest.raises(UsageError, match="must be between 0.5 and 1"):
            choose_recall(writer, wrong)


def test_a_target_that_is_missed_is_said(writer, monkeypatch, caplog):
    lower_limits(monkeypatch, 10)
    build_vector_cache(writer)
    assert "of the ten nearest" not in caplog.text
    monkeypatch.setattr(vector_build, "wanted_recall", lambda _: 1.01)
    choose_kind(writer, "HNSW8")
    assert "of the ten nearest, not the 1.01 asked for" in caplog.text


def test_a_chosen_kind_is_kept_of_any_size_and_none_without_vectors(folder, writer):
    choose_kind(writer, "HNSW8")
    assert kind_of_vectors(writer) == "HNSW8"
    writer.delete([d.id for d in make_documents(40)])
    compact(writer)
    build_vector_cache(writer)
    assert writer.snapshot.cache("faiss") is None
    before = generation(writer)
    choose_kind(writer, "HNSW4")  # checked, and built once there is something
    assert generation(writer) == before + 1
    assert writer.snapshot.cache("faiss") is None


def test_without_faiss_every_vector_is_compared(writer, monkeypatch, caplog):
    lower_limits(monkeypatch, 10)
    build_vector_cache(writer)
    monkeypatch.setitem(sys.modules, "faiss", None)
    asked = []
    index = open_vectors(writer.snapshot, lambda _, kind: asked.append(kind))
    assert index.kind == "exact"
    assert asked == ["faiss"]
    assert "every vector is scanned instead" in caplog.text
    assert open_vectors(writer.snapshot).kind == "exact"
    build_vector_cache(writer, force=True)
    assert "until then every vector is scanned" in caplog.text


def test_a_bad_faiss_file_is_not_read(writer, monkeypatch, caplog):
    lower_limits(monkeypatch, 10)
    build_vector_cache(writer)
    row = writer.snapshot.cache("faiss")
    path = writer.layout.ann / row.name
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert kind_of_vectors(writer) == "exact"
    assert "the FAISS file is damaged" in caplog.text
    path.unlink()
    assert kind_of_vectors(writer) == "exact"
    assert "No such file" in caplog.text
    with writer.generation():
        values = ("../x", *[getattr(row, f) for f in ("kind", "files", "covers", "params", "gen")])
        catalog.put_cache(writer.connection, catalog.CacheRow(*values))
    writer.refresh()
    assert kind_of_vectors(writer) == "exact"
    assert "'../x' is no name of a FAISS file" in caplog.text
    assert {record.name for record in caplog.records} == {"semsearch"}


@pytest.mark.parametrize(
    "change",
    [
        {"rotation_id": 99}, {"dim": 3}, {"encoder_id": 9}, {"n": 39}, {"n": 41},
        {"last_vid": 39}, {"last_vid": 41},
    ],
)  # fmt: skip
def test_a_faiss_file_of_other_rows_is_not_used(writer, monkeypatch, change):
    lower_limits(monkeypatch, 10)
    build_vector_cache(writer)
    row = valid_cache(writer.snapshot)
    assert row is not None
    with writer.generation():
        made = json.dumps(json.loads(row.covers) | change)
        other = catalog.CacheRow(row.name, row.kind, row.files, made, row.params, row.gen)
        catalog.put_cache(writer.connection, other)
    writer.refresh()
    assert valid_cache(writer.snapshot) is None
    assert kind_of_vectors(writer) == "exact"


def test_an_empty_index_has_nothing_to_cover(folder):
    with open_for_writing(Layout(folder)) as writer:
        assert covers(writer.snapshot)["encoder_id"] is None
        assert covers(writer.snapshot)["n"] == 0
        assert valid_cache(writer.snapshot) is None


def test_faiss_serves_the_widths_at_which_it_finds_enough():
    rows = ArrayRows(np.arange(4), np.eye(4, 8, dtype=np.float32))
    exact = ExactIndex(rows)
    index = CoveredIndex(exact, rows, exact, {8: 0.99, 4: 0.95, 2: 0.9})
    served = [index.serves(dims) for dims in (1, 2, 3, 4, 5, 8)]
    assert served == [False, False, False, True, True, True]
    lower = CoveredIndex(exact, rows, exact, {8: 0.99, 4: 0.95, 2: 0.9}, enough=0.9)
    assert lower.serves(2)


def test_a_width_that_faiss_does_not_serve_is_compared_whole(writer, monkeypatch):
    lower_limits(monkeypatch, 10)
    build_vector_cache(writer)
    index, exact = open_vectors(writer.snapshot, never), ExactIndex(writer.snapshot.rows)
    assert isinstance(index, CoveredIndex)
    assert not index.serves(32)
    queries = writer.snapshot.rows.take(np.array([0, 17, 39]))[:, :32]
    wanted, found = exact.search(queries, 7), index.search(queries, 7)
    np.testing.assert_array_equal(found.ids, wanted.ids)
    np.testing.assert_array_equal(found.scores, wanted.scores)
    monkeypatch.setattr("semsearch.index.build.build", lambda *_, **__: Built(exact))
    before = generation(writer)
    build_vector_cache(writer, force=True)
    assert generation(writer) == before


@dataclass
class Built:
    """Where nothing but comparing every vector is good enough."""

    index: ExactIndex


def test_what_was_measured_decides_the_width_that_faiss_serves(folder, monkeypatch):
    lower_limits(monkeypatch, 10)
    monkeypatch.setattr(vector_build, "MEASURED_DIMS", (64, 32, 16))
    index_into(folder, FakeEncoder(64), make_documents(60))
    with Reader(folder) as reader:
        row = reader.snapshot().cache("faiss")
        assert row is not None
        recalls = dict(json.loads(row.params)["recalls"])
        assert sorted(recalls) == [16, 32, 64]
        index = open_vectors(reader.snapshot())
        assert isinstance(index, CoveredIndex)
        assert index.recalls == recalls
        assert index.serves(64) == (recalls[64] >= vector_cache.ENOUGH_RECALL)


def test_vectors_count_less_of_what_the_model_cannot_read():
    assert Reading().weight == 1
    assert Reading(0.25).weight == 0.75
    assert Reading(0.5, True).weight == pytest.approx(0.1)


# Maintenance of an index that has nothing to maintain.


def test_an_empty_index_is_left_as_it_is(folder):
    with open_for_writing(Layout(folder)) as writer:
        for work in (compact, fit_rotation_if_due, merge_segments, build_vector_cache):
            work(writer)
        fill_tokens(writer, np.array([1]), [None])
        assert generation(writer) == 0
        assert writer.delete(["a"]) == []
        with pytest.raises(RuntimeError, match="adopt_encoder comes first"):
            _ = writer.width


def test_no_codes_to_give_is_no_commit(folder, monkeypatch):
    small_sizes(monkeypatch.setattr)
    with open_for_writing(Layout(folder)) as writer:
        writer.adopt_encoder(encoder_row(), DIM, TOKENS)
        put(writer, [Document("a", "text of a document", "")])
        before = generation(writer)
        fill_tokens(writer, np.zeros(0, np.int64), [])
        assert generation(writer) == before
        writer.keep_tokens(0)
        fill_tokens(writer, np.array([1]), [None])
        assert generation(writer) == before + 1


# Beside, backup.


def test_what_was_chosen_is_followed_by_an_index_of_another_model(writer):
    chosen = choices_of(writer.connection)
    assert set(chosen) == {"language", "long_text", "token_vectors"}
    assert (token_choice(chosen), token_choice({})) == (True, None)
    choose_language(writer, "de")
    choose_recall(writer, 0.8)
    choose_kind(writer, "HNSW8")
    choose_long_text(writer, "chunk")
    writer.keep_tokens(0)
    chosen = choices_of(writer.connection)
    plain = {
        "language": "de", "recall_target": "0.8", "vector_index": "HNSW8", "long_text": "chunk",
    }  # fmt: skip
    assert chosen == plain | {"token_vectors": "no"}
    assert plain_choices(chosen) == plain
    assert token_choice(chosen) is False


def test_nothing_beside_is_nothing(folder, writer):
    assert beside_of(writer.layout) is None
    with pytest.raises(NotFound, match="nothing is beside this index"):
        forget_beside(writer.layout)
    with open_for_writing(writer.layout.beside):
        pass
    assert beside_of(writer.layout) is None  # it holds nothing yet


def test_what_is_beside_is_described_and_forgotten(folder, writer, monkeypatch):
    index_into(writer.layout.beside.folder, FakeEncoder(32, "other"), make_documents(7))
    found = beside_of(writer.layout)
    assert found is not None
    assert (found.model, found.dims, found.documents, found.served) == ("other", 32, 7, False)
    assert found.fingerprint == FakeEncoder(32, "other").fingerprint
    every = [p for p in writer.layout.beside.folder.rglob("*") if p.is_file()]
    assert found.bytes == sum(p.stat().st_size for p in every) == size_of(folder / "beside")
    assert size_of(folder / "nothing") == 0
    opened = []

    def open_it(path):
        opened.append(open_reader(path))
        return opened[0]

    monkeypatch.setattr(beside, "open_reader", open_it)
    assert beside_of(writer.layout) == found
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")
    forget_beside(writer.layout)
    assert not writer.layout.beside.folder.exists()
    assert not list(folder.glob(".tmp-*"))


def test_what_a_killed_swap_left_is_settled(folder, writer):
    gen = generation(writer)
    (folder / ".tmp-1-ab").mkdir()
    (folder / ".tmp-1-ab" / "x").write_bytes(b"1")
    (folder / ".tmp-file").write_bytes(b"1")
    (folder / f"before-{gen + 1}").mkdir()  # never committed
    (folder / "before-x").mkdir()  # nothing of ours
    settle(writer.layout, writer.snapshot)
    assert not (folder / ".tmp-1-ab").exists()
    assert (folder / ".tmp-file").exists()
    assert not (folder / f"before-{gen + 1}").exists()
    assert (folder / "before-x").is_dir()
    (folder / f"before-{gen}").mkdir()  # committed: it is what is beside now
    (folder / f"before-{gen}" / "mark").write_bytes(b"1")
    (folder / "beside").mkdir()
    (folder / "beside" / "old").write_bytes(b"1")
    settle(writer.layout, writer.snapshot)
    assert [path.name for path in (folder / "beside").iterdir()] == ["mark"]
    (folder / "beside").rename(folder / f"before-{gen}")  # killed between its two last steps
    settle(writer.layout, writer.snapshot)
    assert [path.name for path in (folder / "beside").iterdir()] == ["mark"]
    assert not (folder / f"before-{gen}").exists()


def test_files_that_no_commit_names_are_removed_and_folders_are_not(folder, writer):
    for place in (writer.layout.segments, writer.layout.ann):
        place.mkdir(exist_ok=True)
        (place / "kept-by-somebody").mkdir()
        (place / "s-left.vec").write_bytes(b"1")
    build_lexical_cache(writer, force=True)
    (writer.layout.lexical / "left.store").write_bytes(b"1")
    work = writer.layout.lexical / files.WORK
    work.mkdir(exist_ok=True)
    (work / "half.store").write_bytes(b"1")
    settle(writer.layout, writer.snapshot)
    assert not (work / "half.store").exists()
    collect_garbage(writer)
    for place in (writer.layout.segments, writer.layout.ann):
        assert (place / "kept-by-somebody").is_dir()
        assert not (place / "s-left.vec").exists()
    assert not (writer.layout.lexical / "left.store").exists()
    view = open_lexical(writer.snapshot, writer.connection, never)
    assert view is not None
    assert (view.search(["title"], 40).ids >= 0).all()


class Unreadable:
    name = "some.vec"

    def read(self, _):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_file_that_cannot_be_read_stops_a_backup(tmp_path):
    with pytest.raises(StorageError, match=r"some.vec: cannot read: Input/output error"):
        _copy(cast("IO[bytes]", Unreadable()), tmp_path / "some.vec")
    assert list(tmp_path.iterdir()) == []


def test_a_backup_counts_its_own_files(folder, writer, tmp_path, monkeypatch):
    lower_limits(monkeypatch, 10)
    build_vector_cache(writer)
    done = back_up(folder, tmp_path / "copy")
    assert (done.generation, done.documents, done.kept) == (generation(writer), 40, None)
    every = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert done.bytes == sum(path.stat().st_size for path in every if path.name != "LOCK")
    assert done.bytes == own_bytes(Layout(tmp_path / "copy"))
    assert own_bytes(Layout(tmp_path / "nothing")) == 0
    (tmp_path / "copy" / "extra").write_bytes(b"1" * 1000)
    assert own_bytes(Layout(tmp_path / "copy")) == done.bytes


def test_a_backup_is_on_disk_before_it_has_its_name(folder, writer, tmp_path, monkeypatch):
    steps = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd):
        steps.append(os.readlink(f"/proc/self/fd/{fd}").removeprefix(str(tmp_path)))
        real_fsync(fd)

    def rename(source, target):
        steps.append("named")
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    back_up(folder, tmp_path / "copy")
    named = steps.index("named")
    inside = [path.split("/", 2)[2:] for path in steps[:named] if path.startswith("/.tmp-")]
    assert inside[-2:] == [["catalog.db"], []]
    assert ["lex"] in inside
    assert steps[named + 1 :] == [""]


def test_a_cache_of_an_unknown_kind_is_not_copied(folder, writer, tmp_path):
    with writer.generation():
        row = catalog.CacheRow("odd", "odd", "{}", "{}", "{}", 1)
        catalog.put_cache(writer.connection, row)
    with pytest.raises(Corrupt, match="the cache odd has the unknown kind 'odd'"):
        back_up(folder, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_derived_file_that_cannot_be_read_is_named(folder, writer, monkeypatch):
    lower_limits(monkeypatch, 10)
    build_vector_cache(writer)
    path = writer.layout.ann / writer.snapshot.cache("faiss").name
    path.unlink()
    path.mkdir()
    with Reader(folder) as reader:
        (found,) = check_index(reader)
    assert (found.part, found.is_note) == ("derived", False)
    assert found.text == f"{path}: cannot be read: not a file"


def test_a_writer_holds_what_it_wrote(folder, monkeypatch):
    small_sizes(monkeypatch.setattr)
    many = [Document(f"d{n}", f"text of number {n}", "") for n in range(12)]
    with open_for_writing(Layout(folder)) as writer:
        writer.adopt_encoder(encoder_row(), DIM, TOKENS)
        for document in many:
            put(writer, [document])
    with Reader(folder) as reader:
        assert_holds(reader.snapshot(), reader, {d.id: d for d in many})
