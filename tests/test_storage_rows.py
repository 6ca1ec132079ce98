"""The catalog's rows and the tables of vectors and codes, function by function, against values
that are reckoned here."""

import hashlib
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from semsearch.collection import beside
from semsearch.collection.layout import Layout
from semsearch.collection.rows import SlicedRows, StoredRows
from semsearch.collection.tokens import StoredTokens, codes_of_each, in_parts
from semsearch.errors import Corrupt
from semsearch.maxsim import Codes, TokenCodec
from semsearch.store import catalog, documents, passages, rows, schema
from semsearch.store.catalog import CacheRow, EncoderRow, GenerationRow, SegmentRow
from semsearch.store.database import open_reader, open_writer, transaction
from semsearch.store.filters import field_rows
from semsearch.store.passages import Extent, PassageRow
from semsearch.store.recent_tokens import RecentTokens, packed
from semsearch.store.segments import Segment, write_segment
from semsearch.store.token_files import NOT_STORED, TokenFormat, in_one, joined, spread
from semsearch.types import Document

ENCODER = EncoderRow(3, "f" * 64, "tiny", "main", 4, "[2,4]", "{}", 64, "torch", "float32")


@pytest.fixture
def connection(tmp_path):
    database = open_writer(tmp_path / "catalog.db")
    with transaction(database.conn, tmp_path / "catalog.db"):
        catalog.add_encoder(database.conn, ENCODER)
    yield database.conn
    database.close()


def count(connection, table):
    return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


# Settings and small tables.


def test_settings_are_replaced_and_absent_ones_are_none(connection):
    assert catalog.get_meta(connection, "a") is None
    catalog.set_meta(connection, "a", "1")
    catalog.set_meta(connection, "b", "")
    catalog.set_meta(connection, "a", "2")
    assert catalog.get_meta(connection, "a") == "2"
    assert catalog.get_meta(connection, "b") == ""
    assert count(connection, "meta") == 2


def test_only_the_newest_generation_is_kept(connection):
    assert catalog.generation(connection) == GenerationRow(0, 0, 0, 0, 0)
    for gen in (1, 2):
        catalog.add_generation(connection, GenerationRow(gen, gen * 2, gen * 3, gen * 5, 7))
    assert catalog.generation(connection) == GenerationRow(2, 4, 6, 10, 7)
    assert count(connection, "generation") == 1


def test_the_active_encoder_is_the_one_that_the_setting_names(connection):
    assert catalog.active_encoder(connection) is None
    other = EncoderRow(4, "e" * 64, "other", None, 4, "[]", "{}", 64, "torch", "float32")
    catalog.add_encoder(connection, other)
    for row in (ENCODER, other):
        catalog.set_meta(connection, "active_encoder", str(row.encoder_id))
        assert catalog.active_encoder(connection) == row
    assert (ENCODER.is_matryoshka, other.is_matryoshka) == (True, False)
    catalog.set_meta(connection, "active_encoder", "9")
    with pytest.raises(Corrupt, match="row 9 of table encoder is missing"):
        catalog.active_encoder(connection)


def test_rotations_come_back_as_they_were_and_are_dropped_by_encoder(connection):
    matrix = np.arange(16, dtype=np.float32).reshape(4, 4)
    assert catalog.rotation(connection, None) is None
    assert catalog.rotation_size(connection, None) == 0
    catalog.add_encoder(
        connection, EncoderRow(4, "e" * 64, "other", None, 4, "[]", "{}", 64, "torch", "float32")
    )
    catalog.add_rotation(connection, 1, 3, 50, matrix[:, ::-1])
    catalog.add_rotation(connection, 2, 4, 60, matrix.T)
    found = catalog.rotation(connection, 1)
    np.testing.assert_array_equal(found, matrix[:, ::-1])
    np.testing.assert_array_equal(catalog.rotation(connection, 2), matrix.T)
    assert [catalog.rotation_size(connection, number) for number in (1, 2)] == [50, 60]
    assert catalog.next_id(connection, "rotation") == 3
    catalog.drop_rotations(connection, 3)
    with pytest.raises(Corrupt, match="row 1 of table rotation is missing"):
        catalog.rotation(connection, 1)
    assert catalog.rotation_size(connection, 2) == 60


def segment_row(seg_id, first, last, encoder_id=3):
    name = f"s-{seg_id}.vec"
    return SegmentRow(seg_id, name, "x", 5, first, last, encoder_id, None, None, None, 1)


def test_segments_come_in_the_order_of_their_vids(connection):
    catalog.add_encoder(
        connection, EncoderRow(4, "e" * 64, "other", None, 4, "[]", "{}", 64, "torch", "float32")
    )
    made = [segment_row(1, 50, 60), segment_row(2, 1, 9), segment_row(3, 20, 30, encoder_id=4)]
    assert catalog.next_id(connection, "segment") == 1
    for row in made:
        catalog.add_segment(connection, row)
    assert catalog.segments(connection) == [made[1], made[2], made[0]]
    assert catalog.segments(connection, 3) == [made[1], made[0]]
    assert catalog.segments(connection, 4) == [made[2]]
    assert catalog.next_id(connection, "segment") == 4
    catalog.drop_segments(connection, [1, 3])
    assert catalog.segments(connection) == [made[1]]


def test_a_cache_replaces_the_earlier_one_of_its_kind(connection):
    one, two = (
        CacheRow("b", "faiss", "{}", "{}", "{}", 1),
        CacheRow("a", "lex", "{}", "{}", "{}", 1),
    )
    three = CacheRow("c", "faiss", "{}", "{}", "{}", 2)
    for row in (one, two):
        catalog.put_cache(connection, row)
    assert catalog.caches(connection) == [two, one]
    catalog.put_cache(connection, three)
    assert catalog.caches(connection) == [two, three]
    catalog.drop_cache(connection, "faiss")
    assert catalog.caches(connection) == [two]
    catalog.put_cache(connection, one)
    catalog.drop_cache(connection)
    assert catalog.caches(connection) == []


def test_sources_are_listed_once_each_in_order(connection):
    for uri in ("b", "a", "b"):
        catalog.put_source(connection, uri, None, 1)
    assert catalog.sources(connection) == ["a", "b"]


def test_ids_can_start_above_a_number(connection):
    assert [catalog.next_id(connection, table) for table in ("document", "passage")] == [1, 1]
    catalog.start_ids_above(connection, 41)
    assert [catalog.next_id(connection, table) for table in ("document", "passage")] == [42, 42]
    assert catalog.next_id(connection, "encoder") == 4
    assert catalog.pack_dims([3, 1]) == "[3,1]"


@pytest.mark.parametrize(
    "lose", ["DELETE FROM meta WHERE k = 'b'", "DELETE FROM cache", "DELETE FROM source"]
)
def test_an_index_of_keys_that_is_not_as_its_table_is_refused(connection, tmp_path, lose):
    """As if the page of the table, or that of its index, came from an older copy of the file."""
    catalog.set_meta(connection, "a", "1")
    catalog.set_meta(connection, "b", "1")
    catalog.put_cache(connection, CacheRow("c", "faiss", "{}", "{}", "{}", 1))
    catalog.put_source(connection, "s", None, 1)
    table = lose.split()[2]
    pages = dict(connection.execute("SELECT name, rootpage FROM sqlite_master").fetchall())
    before = (tmp_path / "catalog.db").read_bytes()
    connection.execute(lose)
    after = bytearray((tmp_path / "catalog.db").read_bytes())
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    at = (pages[f"sqlite_autoindex_{table}_1"] - 1) * size
    after[at : at + size] = before[at : at + size]
    (tmp_path / "torn.db").write_bytes(after)
    torn = open_reader(tmp_path / "torn.db")
    read = {
        "meta": lambda: catalog.get_meta(torn, "none"),
        "cache": lambda: catalog.caches(torn),
        "source": lambda: catalog.sources(torn),
    }[table]
    with pytest.raises(Corrupt, match=f"rows of table {table} are lost"):
        read()
    torn.close()


# Documents and passages.


def document(name, text="one two three", **metadata):
    return Document(name, text, "T", metadata, "corpus", 1)


def passage(vid, doc_id, ord=0, *, tokens=9, unknown=0, truncated=0, digest=b"h" * 16, start=0):
    return PassageRow(vid, doc_id, ord, start, start + 4, digest, 3, tokens, unknown, truncated)


def fill(connection, *, gen=1):
    """Documents 1 to 4; the second has three passages, the fourth none."""
    crcs = sum(
        documents.insert_document(connection, n, document(f"d{n}", n=n), gen) for n in range(1, 5)
    )
    made = [
        passage(1, 1, unknown=2),
        passage(2, 2, digest=b"a" * 16),
        passage(3, 2, 1, tokens=70, truncated=1, digest=b"b" * 16, start=4),
        passage(4, 2, 2, tokens=66, truncated=1, digest=b"c" * 16, start=8),
        passage(5, 3, tokens=80, digest=b"a" * 16),
    ]
    return crcs + passages.insert_passages(connection, made), made


def test_passages_come_back_by_vid(connection):
    _, made = fill(connection)
    assert passages.passages_of(connection, [5, 2, 99]) == {2: made[1], 5: made[4]}
    assert passages.passages_of(connection, []) == {}
    found = passages.passages_of(connection, range(1, 2000))
    assert sorted(found) == [1, 2, 3, 4, 5]


def test_the_first_passage_of_a_text_is_the_one_that_is_known(connection):
    _, made = fill(connection)
    known = passages.vectors_known(connection, [b"a" * 16, b"b" * 16, b"none"], 3)
    assert known == {b"a" * 16: made[1], b"b" * 16: made[2]}
    assert passages.vectors_known(connection, [b"a" * 16], 4) == {}


def test_deleting_counts_what_was_live(connection):
    total, made = fill(connection)
    crc = connection.execute("SELECT crc FROM document WHERE doc_id = 2").fetchone()[0]
    gone, crcs = documents.stamp_deleted(connection, [2, 4], 7)
    assert gone == 3
    left = connection.execute(
        "SELECT (SELECT sum(crc) FROM document WHERE deleted_gen IS NULL)"
        " + (SELECT sum(crc) FROM passage WHERE doc_id IN (1, 3))"
    ).fetchone()[0]
    assert total - crcs == left
    stored = documents.documents_of(connection, [2, 1, 2, 99])
    assert sorted(stored) == [1, 2]
    assert stored[2].deleted_gen == 7
    assert stored[1].deleted_gen is None
    assert stored[2].crc == crc ^ rows.stamp_crc(7)
    assert passages.dead_vids(connection).tolist() == [2, 3, 4]
    assert documents.stamp_deleted(connection, [], 8) == (0, 0)


def test_purging_leaves_the_living(connection):
    fill(connection)
    documents.stamp_deleted(connection, [2, 4], 7)
    documents.purge_deleted(connection)
    assert sorted(documents.documents_of(connection, range(1, 9))) == [1, 3]
    assert sorted(passages.passages_of(connection, range(1, 9))) == [1, 5]
    assert connection.execute("SELECT doc_id FROM field ORDER BY doc_id").fetchall() == [(1,), (3,)]
    assert passages.dead_vids(connection).tolist() == []
    assert catalog.next_id(connection, "document") == 5


def test_live_documents_are_found_by_id(connection):
    fill(connection)
    documents.stamp_deleted(connection, [2], 7)
    found = documents.live_by_id(connection, ["d1", "d2", "d4", "\ud800", "none"])
    assert {key: row.doc_id for key, row in found.items()} == {"d1": 1, "d4": 4}
    assert found["d1"].document == document("d1", n=1)
    assert documents.live_row_ids(connection, ["d3", "d2", "\ud800"]) == {"d3": 3}
    documents.insert_document(connection, 9, document("d2"), 8)
    assert documents.live_row_ids(connection, ["d2"]) == {"d2": 9}
    marks = list(documents.live_marks(connection))
    assert [(mark.ext_id, mark.doc_id, mark.source) for mark in marks] == [
        ("d1", 1, "corpus"), ("d2", 9, "corpus"), ("d3", 3, "corpus"), ("d4", 4, "corpus"),
    ]  # fmt: skip
    assert marks[0].content_hash == documents.content_hash(document("d1", n=1))


def test_a_page_of_documents_is_that_of_a_generation(connection, monkeypatch):
    fill(connection, gen=2)
    documents.insert_document(connection, 5, document("d5"), 4)
    documents.stamp_deleted(connection, [2], 3)

    def ids(gen, after=0):
        return [row.doc_id for row in documents.page_of_documents(connection, gen, after)]

    assert ids(1) == []
    assert ids(2) == [1, 2, 3, 4]
    assert ids(3) == [1, 3, 4]
    assert ids(4) == [1, 3, 4, 5]
    assert ids(4, after=3) == [4, 5]
    assert ids(4, after=5) == []
    monkeypatch.setattr(documents, "BATCH", 2)
    assert ids(4) == [1, 3]


def test_texts_and_passages_are_those_of_a_generation(connection):
    _, made = fill(connection, gen=2)
    documents.insert_document(connection, 5, document("d5"), 4)
    made.append(passage(6, 5))
    passages.insert_passages(connection, made[-1:])
    documents.stamp_deleted(connection, [3], 3)

    def texts(after, up_to, gen):
        return [vid for vid, _ in passages.passage_texts(connection, after, up_to, gen)]

    assert texts(0, 6, 2) == [1, 2, 3, 4, 5, 6]
    assert texts(0, 6, 3) == [1, 2, 3, 4, 6]
    assert texts(1, 3, 3) == [2, 3]
    assert list(passages.passage_texts(connection, 2, 3, 2)) == [
        (3, document("d2").passage(4, 8)),
    ]

    def ordered(gen):
        return [row.vid for row in passages.passages_by_document(connection, gen)]

    assert ordered(1) == []
    assert ordered(2) == [1, 2, 3, 4, 5]
    assert ordered(3) == [1, 2, 3, 4]
    assert ordered(4) == [1, 2, 3, 4, 6]
    assert list(passages.passages_by_document(connection, 2)) == made[:5]


def test_passages_of_a_document_come_in_its_order_whatever_their_vids(connection):
    documents.insert_document(connection, 1, document("d1"), 1)
    documents.insert_document(connection, 2, document("d2"), 1)
    made = [passage(1, 2, 1), passage(2, 1, 1), passage(3, 2, 0), passage(4, 1, 0)]
    passages.insert_passages(connection, made)
    assert [row.vid for row in passages.passages_by_document(connection, 1)] == [4, 2, 3, 1]
    found = passages.vids_of(connection, np.array([2, 1]))
    assert found.tolist() == [1, 2, 3, 4]
    assert found.dtype == np.int64
    assert passages.vids_of(connection, np.array([2])).tolist() == [1, 3]
    assert passages.vids_of(connection, np.array([], np.int64)).tolist() == []
    documents.insert_document(connection, 3, document("d3"), 1)
    assert passages.vids_of(connection, np.array([3, 1])).tolist() == [2, 4]  # the third has none


def test_how_much_is_held_and_lost(connection):
    fill(connection)
    assert passages.extents_of(connection, [1, 2, 4], 64) == {
        1: Extent(1, 0, 0), 2: Extent(3, 2, 6 + 2),
    }  # fmt: skip
    assert passages.extents_of(connection, [2], 68) == {2: Extent(3, 2, 2)}
    assert passages.count_chunked(connection) == 1
    assert passages.count_truncated(connection, 64) == (1, 8)
    assert passages.count_truncated(connection, 100) == (1, 0)
    assert passages.count_tokens(connection) == (2, 9 + 9 + 70 + 66 + 80)
    documents.stamp_deleted(connection, [2], 7)
    assert passages.count_chunked(connection) == 0
    assert passages.count_truncated(connection, 64) == (0, 0)
    assert passages.count_tokens(connection) == (2, 89)
    documents.stamp_deleted(connection, [1, 3], 7)
    assert passages.count_tokens(connection) == (0, 0)


@pytest.mark.parametrize(
    "read",
    [
        lambda c: passages.passages_of(c, [3]),
        lambda c: passages.vectors_known(c, [b"b" * 16], 3),
        lambda c: list(passages.passage_texts(c, 0, 9, 1)),
        lambda c: list(passages.passages_by_document(c, 1)),
    ],
)
def test_a_damaged_passage_is_refused_however_it_is_read(connection, read):
    fill(connection)
    read(connection)
    connection.execute('UPDATE passage SET "end" = 9 WHERE vid = 3')
    with pytest.raises(Corrupt, match="row 3 of table passage is damaged"):
        read(connection)


@pytest.mark.parametrize(
    "read",
    [
        lambda c: documents.documents_of(c, [2]),
        lambda c: documents.live_by_id(c, ["d2"]),
        lambda c: documents.page_of_documents(c, 1, 0),
        lambda c: list(passages.passage_texts(c, 0, 9, 1)),
    ],
)
def test_a_damaged_document_is_refused_however_it_is_read(connection, read):
    fill(connection)
    read(connection)
    connection.execute("UPDATE document SET title = 'U' WHERE doc_id = 2")
    with pytest.raises(Corrupt, match="row 2 of table document is damaged"):
        read(connection)


def test_sound_rows_leave_out_the_damaged_ones_and_end_where_nothing_can_be_read(connection):
    for key in ("a", "b", "c"):
        catalog.set_meta(connection, key, key * 2)
    connection.execute("UPDATE meta SET v = 'x' WHERE k = 'b'")
    assert rows.sound_rows(connection, "meta") == [("a", "aa"), ("c", "cc")]
    connection.execute("INSERT INTO meta VALUES ('d', CAST(x'ff' AS TEXT), 1)")
    assert rows.sound_rows(connection, "meta") == [("a", "aa"), ("c", "cc")]
    assert rows.sound_rows(connection, "no_such_table") == []


def test_batches_take_numbers_of_numpy_and_hold_so_many(monkeypatch):
    assert list(rows.batches(np.arange(3))) == [[0, 1, 2]]
    assert all(type(key) is int for batch in rows.batches(np.arange(3)) for key in batch)
    assert list(rows.batches([])) == []
    assert rows.BATCH == 500
    assert [len(batch) for batch in rows.batches(range(1001))] == [500, 500, 1]
    assert sum(rows.batches(range(1001)), []) == list(range(1001))


def test_short_hashes_and_json_are_part_of_the_format():
    assert rows.short_hash("a", "bc").hex() == _hashed("a", "bc")
    assert rows.short_hash("ab", "c") != rows.short_hash("a", "bc")
    assert len(rows.short_hash()) == 16
    assert rows.canonical_json({"b": [1, 2], "a": "é"}) == '{"a":"é","b":[1,2]}'
    assert rows.is_utf8("é")
    assert not rows.is_utf8("\udcff")
    assert rows.stamp_crc(None) == 0
    assert rows.stamp_crc(3) == rows.row_crc((3,))


def _hashed(*parts):
    raw = b"".join(len(part.encode()).to_bytes(8, "little") + part.encode() for part in parts)
    return hashlib.sha256(raw).hexdigest()[:32]


def test_the_schema_is_part_of_the_format():
    """Another one needs another number of the format, and a migration."""
    assert schema.FORMAT == 1
    assert int.from_bytes(b"SEMS", "big") == schema.APPLICATION_ID
    text = " ".join(schema.TABLES.split())
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "9344ffad0ded7ea0"
    assert schema.SCHEMAS == {1: schema.TABLES}
    names = (catalog.HORIZON, catalog.SWAPPED, catalog.CODED_WIDTH, beside.SERVED, beside.FOLLOWED)
    assert names == ("horizon", "swapped", "token_width", "served", "followed")


def test_the_kinds_of_fields_are_part_of_the_format():
    values = [
        1,
        0.5,
        "a",
        "x" * 256,
        "x" * 257,
        True,
        None,
        2**63 - 1,
        2**63,
        -(2**63),
        -(2**63) - 1,
        1e300,
    ]
    found = list(field_rows({"k": values, "one": "b", "object": {}, "nan": float("nan")}, 7))
    assert found == [
        ("k", "number", 1, 7), ("k", "number", 0.5, 7), ("k", "text", "a", 7),
        ("k", "text", "x" * 256, 7), ("k", "long", "", 7), ("k", "bool", True, 7),
        ("k", "null", "", 7), ("k", "number", 2**63 - 1, 7), ("k", "huge", "", 7),
        ("k", "number", -(2**63), 7), ("k", "huge", "", 7), ("k", "number", 1e300, 7),
        ("one", "text", "b", 7),
    ]  # fmt: skip


# Tables of vectors.


def vectors(n, dim=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float16)


@pytest.fixture
def stored(tmp_path):
    """Two files of 3 and 4 rows, then 2 recent ones; and all of it as one array."""
    every = vectors(9)
    ids = np.array([2, 3, 5, 7, 8, 10, 12, 20, 21])
    parts = []
    for start, stop in ((0, 3), (3, 7)):
        file = write_segment(tmp_path, ids[start:stop], [every[start:stop]], 4, "f")
        parts.append(Segment(tmp_path / file.name, file.sha256))
    return StoredRows(parts, (ids[7:], every[7:]), 4), ids, every


def test_rows_of_several_files_are_one_table(stored):
    table, ids, every = stored
    assert len(table) == 9
    assert table.dim == 4
    assert table.ids.tolist() == ids.tolist()
    for start in range(10):
        for stop in range(start, 12):
            np.testing.assert_array_equal(table.block(start, stop), every[start:stop])
    assert table.block(4, 4).shape == (0, 4)
    for some in ([8, 0, 6, 2, 2], [0], [7, 8], [3], []):
        taken = table.take(np.array(some, np.int64))
        assert taken.dtype == np.float32
        np.testing.assert_array_equal(taken, every[some].astype(np.float32))


def test_a_slice_of_rows_is_a_table_too(stored):
    table, ids, every = stored
    part = SlicedRows(table, 2, 8)
    assert len(part) == 6
    assert part.dim == 4
    assert part.ids.tolist() == ids[2:8].tolist()
    np.testing.assert_array_equal(part.block(0, 99), every[2:8])
    np.testing.assert_array_equal(part.block(1, 3), every[3:5])
    np.testing.assert_array_equal(part.take(np.array([5, 0])), every[[7, 2]].astype(np.float32))


def test_rows_without_files_or_without_recent_ones(stored, tmp_path):
    _, ids, every = stored
    none = (np.zeros(0, np.int64), np.zeros((0, 4), np.float16))
    empty = StoredRows([], none, 4)
    assert len(empty) == 0
    assert empty.ids.tolist() == []
    assert empty.ids.dtype == np.int64
    assert empty.block(0, 5).shape == (0, 4)
    recent = StoredRows([], (ids[7:], every[7:]), 4)
    assert recent.ids.tolist() == [20, 21]
    file = write_segment(tmp_path, ids[:3], [every[:3]], 4, "f")
    alone = StoredRows([Segment(tmp_path / file.name, file.sha256)], none, 4)
    assert alone.ids.tolist() == [2, 3, 5]
    assert np.shares_memory(alone.ids, alone._segments[0].vids)
    assert np.shares_memory(alone.block(1, 3), alone._segments[0].vectors(0, 3))


# Codes of tokens.

MADE = TokenFormat("f" * 64, TokenCodec(16).name, TokenCodec(16).width)


def codes(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, MADE.width), np.uint8)


def test_recent_codes_come_back_row_by_row():
    other = MADE._replace(codec="another")
    kept = [codes(3), None, codes(0), codes(2, 1)]
    raw = [None if own is None else packed(own, MADE) for own in kept]
    found = RecentTokens(raw, MADE)
    assert not found.foreign
    assert found.counts().tolist() == [3, NOT_STORED, 0, 2]
    taken = found.take(np.array([3, 1, 0, 2]))
    assert taken.counts.tolist() == [2, NOT_STORED, 3, 0]
    np.testing.assert_array_equal(taken.codes, np.concatenate([kept[3], kept[0]]))
    mixed = RecentTokens([raw[0], packed(codes(5), other)], MADE)
    assert mixed.foreign
    assert mixed.counts().tolist() == [3, NOT_STORED]
    assert RecentTokens([], MADE).take(np.zeros(0, np.int64)).codes.shape == (0, MADE.width)
    assert not RecentTokens([None], MADE).foreign


def test_codes_are_put_together():
    assert spread(np.array([5, 1, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert spread(np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []
    one, two = codes(2), codes(3, 1)
    both = joined([Codes(one, np.array([2])), Codes(two, np.array([1, 2]))])
    np.testing.assert_array_equal(both.codes, np.concatenate([one, two]))
    assert both.counts.tolist() == [2, 1, 2]
    assert joined([]).codes.shape == (0, 0)
    assert joined([]).counts.tolist() == []
    made = in_one([one, None, codes(0), two])
    assert made.counts.tolist() == [2, NOT_STORED, 0, 3]
    np.testing.assert_array_equal(made.codes, np.concatenate([one, two]))
    assert in_one([None]).codes.shape == (0, 0)
    assert in_one([None]).counts.dtype == np.int64


def test_codes_of_recent_passages_by_ordinal():
    kept = [codes(3), None, codes(0), codes(2, 1)]
    raw = [None if own is None else packed(own, MADE) for own in kept]
    table = StoredTokens(Layout(Path("nowhere")), [], raw, MADE)
    assert len(table) == 4
    assert table.recent_bytes == sum(len(own) for own in raw if own)
    each = codes_of_each(table, np.array([3, 1, 2, 0]))
    assert each[1] is None
    for number, place in ((0, 3), (2, 2), (3, 0)):
        np.testing.assert_array_equal(each[number], kept[place])
    assert codes_of_each(table, np.zeros(0, np.int64)) == []
    assert table.missing().tolist() == [1]
    (part,) = in_parts(table, np.arange(4))
    assert part.counts.tolist() == [3, NOT_STORED, 0, 2]
    np.testing.assert_array_equal(part.codes, np.concatenate([kept[0], kept[3]]))


def test_an_index_that_keeps_no_codes_has_none():
    table = StoredTokens(Layout(Path("nowhere")), [], [None, None], None)
    present, found = table.take(np.array([1, 0, 1]))
    assert present.tolist() == [False] * 3
    assert found.counts.tolist() == [0, 0, 0]
    assert found.codes.shape == (0, 0)
    assert table.missing().tolist() == [0, 1]
    assert table.recent_bytes == 0


def test_json_of_an_encoder_is_read_when_asked(connection):
    catalog.set_meta(connection, "active_encoder", "3")
    row = catalog.active_encoder(connection)
    assert row is not None
    assert json.loads(row.matryoshka_dims) == [2, 4]
    connection.execute("UPDATE encoder SET dim = 5")
    with pytest.raises(Corrupt, match="row 3 of table encoder is damaged"):
        catalog.active_encoder(connection)
    with pytest.raises(sqlite3.OperationalError):
        connection.execute("SELECT nothing FROM encoder")
