"""Derived files and readers: built while a run goes on, chosen by kind, noticed when replaced."""

import json

import numpy as np
import pytest

from semsearch.collection import maintain
from semsearch.collection.layout import Layout
from semsearch.collection.lexical_cache import build_lexical_cache, uncovered_passages
from semsearch.collection.reader import Reader
from semsearch.collection.vector_build import build_vector_cache, choose_kind
from semsearch.collection.vector_cache import CoveredIndex
from semsearch.collection.writer import open_for_writing
from semsearch.errors import Corrupt, InputError, StorageError, UsageError
from semsearch.index.contract import ArrayRows
from semsearch.index.exact import ExactIndex
from semsearch.search.options import Options
from semsearch.store.rows import row_crc
from tests.fakes import FakeEncoder, index_into, lower_limits, make_documents, searching


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "idx"


def test_row_checksums_are_part_of_the_format():
    """Fixed values: another interpreter, with other Unicode tables, must read this index."""
    assert row_crc((None, 1, -(2**63), 0.5, "a", b"a")) == 0xD3782ABC
    assert row_crc(("\U0001fae8 \ud800",)) == 0x1A020FE4
    assert row_crc(("1",)) != row_crc((1,)) != row_crc((b"1",))
    assert row_crc(("ab", "c")) != row_crc(("a", "bc"))


def test_words_are_covered_while_a_long_run_goes_on(folder, monkeypatch):
    monkeypatch.setattr("semsearch.indexing.indexer.UNCOVERED_WORDS", 20)
    monkeypatch.setattr("semsearch.indexing.source.WINDOW_DOCUMENTS", 10)

    def source():
        yield from make_documents(60)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_into(folder, FakeEncoder(), source())
    with Reader(folder) as reader:
        assert len(reader.snapshot().rows) == 60
        assert uncovered_passages(reader.snapshot()) <= 30
    hits = searching(folder, FakeEncoder()).search("title", 100, Options("lexical"))
    assert len(hits) == 60


@pytest.mark.parametrize("mode", ["lexical", "dense"])
def test_a_searcher_notices_derived_files_made_after_it_was_opened(
    folder, monkeypatch, caplog, mode
):
    lower_limits(monkeypatch, 50)
    encoder = FakeEncoder(64)
    index_into(folder, encoder, make_documents(200))
    searcher = searching(folder, encoder)
    before = searcher.search("bal car dir gol", 20, Options(mode))
    with open_for_writing(Layout(folder)) as writer:
        maintain.compact(writer)
        build_vector_cache(writer, force=True)
        build_lexical_cache(writer, force=True)
    after = searcher.search("bal car dir gol", 20, Options(mode))
    assert [hit.id for hit in after] == [hit.id for hit in before]
    assert caplog.records == []
    with Reader(folder) as reader:
        assert searcher.snapshot.generation == reader.snapshot().generation


def test_an_emptied_and_compacted_index_keeps_no_words(folder, monkeypatch):
    monkeypatch.setattr("semsearch.collection.writer.FLUSH_ROWS", 5)
    documents = make_documents(10)
    index_into(folder, FakeEncoder(), documents)
    with open_for_writing(Layout(folder)) as writer:
        writer.delete([d.id for d in documents])
        maintain.compact(writer)
        build_lexical_cache(writer, force=True)
        writer.shrink()
    assert list(Layout(folder).lexical.iterdir()) == []
    assert list(Layout(folder).segments.iterdir()) == []
    raw = Layout(folder).catalog.read_bytes()
    assert not any(d.text.encode() in raw for d in documents)


def test_any_kind_of_vector_index_can_be_chosen(folder):
    encoder = FakeEncoder(64)
    index_into(folder, encoder, make_documents(120))
    exact = searching(folder, encoder).search("bal car", 10, Options("dense"))
    with open_for_writing(Layout(folder)) as writer:
        choose_kind(writer, "HNSW16")
        build_vector_cache(writer)
    searcher = searching(folder, encoder)
    assert searcher.source.vectors.kind == "HNSW16"
    found = searcher.search("bal car", 10, Options("dense"))
    assert [(h.id, h.score) for h in found] == [(h.id, h.score) for h in exact]
    index_into(folder, encoder, make_documents(130))  # kept by later runs
    assert searching(folder, encoder).source.vectors.kind == "HNSW16"
    with open_for_writing(Layout(folder)) as writer:
        choose_kind(writer, "exact")
        build_vector_cache(writer)
    assert searching(folder, encoder).source.vectors.kind == "exact"
    assert list(Layout(folder).ann.iterdir()) == []


def test_a_kind_that_faiss_does_not_have_changes_nothing(folder):
    index_into(folder, FakeEncoder(64), make_documents(10))
    with Reader(folder) as reader:
        before = reader.snapshot().generation
    with (
        pytest.raises(UsageError, match="no index kind 'nonsense' for 64 dimensions"),
        open_for_writing(Layout(folder)) as writer,
    ):
        choose_kind(writer, "nonsense")
    with Reader(folder) as reader:
        assert reader.snapshot().generation == before


def test_widths_below_every_measured_one_are_scanned():
    rows = ArrayRows(np.arange(4), np.eye(4, 8, dtype=np.float32))
    index = CoveredIndex(ExactIndex(rows), rows, ExactIndex(rows), {8: 0.99, 4: 0.96, 2: 0.9})
    assert [index.recall_at(dims) for dims in (1, 2, 3, 4, 6, 8)] == [0, 0.9, 0.9, 0.96, 0.96, 0.99]


def test_compacting_again_rotates_again_only_when_the_index_has_grown(folder):
    encoder = FakeEncoder(16)
    index_into(folder, encoder, make_documents(200))
    with open_for_writing(Layout(folder)) as writer:
        first = writer.snapshot.rotation_id
        vectors = writer.snapshot.rows.take(np.arange(200))
        for _ in range(3):
            maintain.compact(writer)
        assert writer.snapshot.rotation_id == first
        np.testing.assert_array_equal(writer.snapshot.rows.take(np.arange(200)), vectors)
    index_into(folder, encoder, make_documents(500))
    with open_for_writing(Layout(folder)) as writer:
        maintain.compact(writer)
        assert writer.snapshot.rotation_id != first
        rotations = writer.connection.execute("SELECT count(*) FROM rotation").fetchone()[0]
        assert rotations == 1


def test_a_slow_reader_of_all_documents_keeps_no_writer_waiting(folder, monkeypatch):
    monkeypatch.setattr("semsearch.store.documents.BATCH", 5)
    documents = make_documents(30)
    index_into(folder, FakeEncoder(), documents)
    with Reader(folder) as reader:
        listing = reader.documents()
        first = next(listing)
        with open_for_writing(Layout(folder)) as writer:
            writer.delete([documents[20].id])
        assert [d.id for d in (first, *listing)] == [d.id for d in documents]


def test_documents_compacted_away_while_they_are_listed_are_missed_aloud(folder, monkeypatch):
    monkeypatch.setattr("semsearch.store.documents.BATCH", 5)
    documents = make_documents(30)
    index_into(folder, FakeEncoder(), documents)
    with Reader(folder) as reader:
        listing = reader.documents()
        next(listing)
        with open_for_writing(Layout(folder)) as writer:
            writer.delete([documents[20].id])
            maintain.compact(writer)
        with pytest.raises(StorageError, match="29 of 30 documents were read: read them again"):
            list(listing)


@pytest.mark.parametrize("name", ["/etc/hostname", "../catalog.db", "s-0.vec"])
def test_a_catalog_cannot_name_files_elsewhere(folder, monkeypatch, name):
    monkeypatch.setattr("semsearch.collection.writer.FLUSH_ROWS", 1)
    index_into(folder, FakeEncoder(), make_documents(3))
    with open_for_writing(Layout(folder)) as writer:
        row = writer.connection.execute("SELECT * FROM segment").fetchone()
        values = [row[0], name, *row[2:-1]]
        writer.connection.execute("UPDATE segment SET name = ?, crc = ?", (name, row_crc(values)))
    with Reader(folder) as reader, pytest.raises(Corrupt, match="is no name of a vector file"):
        reader.snapshot()


def test_what_is_recorded_of_a_faiss_file(folder, monkeypatch):
    lower_limits(monkeypatch, 50)
    index_into(folder, FakeEncoder(64), make_documents(100))
    with Reader(folder) as reader:
        row = reader.snapshot().cache("faiss")
        assert row is not None
        params = json.loads(row.params)
    assert {width for width, _ in params["recalls"]} == {64}
    assert params["index"]["n"] == 100


def test_a_kind_that_cannot_be_built_is_not_kept(folder):
    encoder = FakeEncoder(64)
    index_into(folder, encoder, make_documents(40))
    with (
        pytest.raises(UsageError),
        open_for_writing(Layout(folder)) as writer,
    ):
        choose_kind(writer, "IVF4096,Flat")
    index_into(folder, encoder, make_documents(50))
    assert searching(folder, encoder).source.vectors.kind == "exact"


def test_an_index_is_not_made_among_other_files(folder):
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and not an index: name a new folder with -i"):
        index_into(folder, FakeEncoder(), make_documents(3))
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
