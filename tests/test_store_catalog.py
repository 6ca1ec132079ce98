"""The catalog: every row is checked when it is read, and only our own schema is opened."""

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semsearch.collection import maintain
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader, StaleSnapshot
from semsearch.collection.writer import open_for_writing
from semsearch.errors import Corrupt, InputError, Mismatch, NotFound, SemsearchError, StorageError
from semsearch.store import catalog, documents, passages
from semsearch.store.database import database_errors, open_reader, open_writer
from semsearch.store.rows import canonical_json, row_crc, short_hash, stamp_crc
from semsearch.types import Document
from tests.store_model import DIM, encoder_row, put, small_sizes


def document(number, text="some text of two passages"):
    metadata = {"n": number, "tags": ["a", "b"]}
    return Document(f"d{number}", f"{text} {number}", "Title", metadata, "corpus.jsonl")


def fill(folder):
    """An index with rows in every table: segments, recent vectors, dead documents, a rotation."""
    with open_for_writing(Layout(folder)) as writer:
        writer.adopt_encoder(encoder_row(), DIM)
        put(writer, [document(n) for n in range(6)])
        maintain.fit_rotation_if_due(writer)
        put(writer, [document(n) for n in range(6, 8)])
        writer.delete(["d2"])
        writer.record_source("corpus.jsonl")
        row = catalog.CacheRow("a-x.faiss", "faiss", "{}", canonical_json({"n": 0}), "{}", 3)
        with writer.transaction():
            catalog.put_cache(writer.connection, row)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The bytes of a catalog and its segments."""
    folder = tmp_path_factory.mktemp("sound") / "index"
    with pytest.MonkeyPatch.context() as patch:
        small_sizes(patch.setattr)
        fill(folder)
    return folder


@pytest.fixture
def index(tmp_path, sound):
    """A copy of the sound index that may be damaged."""
    folder = tmp_path / "index"
    (folder / "seg").mkdir(parents=True)
    for path in [sound / "catalog.db", *(sound / "seg").iterdir()]:
        (folder / path.relative_to(sound)).write_bytes(path.read_bytes())
    return folder


TABLES = {
    "meta": "k", "encoder": "encoder_id", "rotation": "rotation_id", "generation": "gen",
    "source": "uri", "document": "doc_id", "passage": "vid", "segment": "seg_id", "l0": "vid",
    "cache": "name",
}  # fmt: skip


def read_everything(folder):
    """Every row through the functions that the package reads them with."""
    try:
        return read_rows(folder)
    except StaleSnapshot as exc:  # rows of the newest snapshot cannot be purged
        raise Corrupt(f"{folder}/catalog.db: a row cannot be found") from exc


def read_rows(folder):
    with Reader(folder) as reader, database_errors(reader.layout.catalog):
        connection = reader.connection
        keys = [key for (key,) in connection.execute("SELECT k FROM meta")]
        ids = [doc_id for (doc_id,) in connection.execute("SELECT doc_id FROM document")]
        snapshot = reader.snapshot()
        vids = snapshot.rows.ids.tolist()
        return (
            reader.documents_of(vids),
            [catalog.get_meta(connection, key) for key in keys],
            catalog.active_encoder(connection),
            snapshot.generation,
            snapshot.segments,
            snapshot.caches,
            snapshot.dead.tolist(),
            None if snapshot.rotation is None else snapshot.rotation.tolist(),
            snapshot.rows.take(np.arange(len(snapshot.rows))).tolist(),
            catalog.sources(connection),
            sorted(passages.passages_of(connection, vids).items()),
            sorted(documents.documents_of(connection, ids).items()),
            [row.doc_id for row in documents.page_of_documents(connection, 10**6, 0)],
            list(passages.passage_texts(connection, 0, 10**9, 10**9)),
        )


def complaint(folder):
    """What is said of a damaged index; the traceback is let go, with the cursors that it holds."""
    with pytest.raises(Corrupt) as caught:
        read_everything(folder)
    return str(caught.value)


def changed(value):
    """Other values that a damaged column might hold."""
    if value is None:
        return [0, 1, "x"]
    if isinstance(value, bytes):
        flipped = bytearray(value)
        flipped[len(value) // 2] ^= 1
        return [bytes(flipped), value[:-1], value + b"\0"]
    if isinstance(value, int):
        return [value + 1, value ^ (1 << 20), None, float(value) + 0.5]
    return [value + "x", value[:-1], value.swapcase() + " ", None]


COLUMNS = {
    "meta": "k v crc", "encoder": "encoder_id fingerprint name revision dim matryoshka_dims prompts"
    " max_length runtime precision crc", "rotation": "rotation_id encoder_id fitted_on dim matrix"
    " crc", "generation": "gen n_document n_passage sum_crc n_seg crc", "source": "uri"
    " content_sha256 gen crc", "document": "doc_id ext_id source title body meta content_hash"
    " added_gen deleted_gen crc", "passage": "vid doc_id ord start end text_hash encoder_id tokens"
    " unknown truncated crc", "segment": "seg_id name sha256 n first_vid last_vid encoder_id"
    " rotation_id tok_name tok_sha256 added_gen crc", "l0": "vid encoder_id rotation_id vec tok"
    " crc", "cache": "name kind files covers params gen crc",
}  # fmt: skip


@pytest.mark.parametrize(
    ("table", "column"),
    [(table, column) for table, columns in COLUMNS.items() for column in columns.split()],
)
def test_any_changed_column_is_refused_when_its_row_is_read(index, table, column):
    read_everything(index)
    connection = sqlite3.connect(index / "catalog.db", isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    assert names == COLUMNS[table].split(), "the schema has another column: list it here too"
    key = TABLES[table]
    rows = connection.execute(f'SELECT "{key}", "{column}" FROM {table}').fetchall()
    assert rows, f"the table {table} needs a row"
    tried = 0
    for number, value in {rows[0], rows[len(rows) // 2], rows[-1]}:
        for other in changed(value):
            connection.execute("BEGIN")
            try:
                connection.execute(
                    f'UPDATE {table} SET "{column}" = ? WHERE "{key}" = ?', (other, number)
                )
            except sqlite3.IntegrityError:
                connection.execute("ROLLBACK")
                continue
            connection.execute("COMMIT")
            message = complaint(index)
            assert "catalog.db" in message
            assert "\n" not in message
            connection.execute(
                f'UPDATE {table} SET "{column}" = ? WHERE "{key}" IS ?',
                (value, other if column == key else number),
            )
            tried += 1
    connection.close()
    assert tried
    read_everything(index)


@pytest.mark.parametrize("table", ["meta", "encoder", "rotation", "generation", "l0", "segment"])
def test_a_lost_row_is_refused(index, table):
    connection = sqlite3.connect(index / "catalog.db")
    with connection:
        connection.execute(f"DELETE FROM {table}")
    connection.close()
    with pytest.raises(Corrupt, match=r"catalog\.db"):
        read_everything(index)


@pytest.mark.parametrize("key", ["dims", "active_encoder", "active_rotation"])
def test_a_lost_setting_is_refused(index, key):
    connection = sqlite3.connect(index / "catalog.db")
    with connection:
        connection.execute("DELETE FROM meta WHERE k = ?", (key,))
    connection.close()
    assert "catalog.db" in complaint(index)


def test_a_lost_file_is_named(index):
    (path,) = (index / "seg").iterdir()
    path.unlink()
    with pytest.raises(Corrupt, match=path.name):
        read_everything(index)


@pytest.mark.parametrize("offset", range(60, 100, 8))
def test_a_truncated_catalog_never_gives_another_answer(index, sound, offset):
    path = index / "catalog.db"
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * offset // 100])
    with pytest.raises(SemsearchError, match=r"catalog\.db"):
        read_everything(index)


def test_a_flipped_bit_of_the_catalog_never_gives_another_answer(index, sound):
    expected = read_everything(index)
    path = index / "catalog.db"
    raw = path.read_bytes()
    random = np.random.default_rng(17)
    refused = 0
    used = np.flatnonzero(np.frombuffer(raw, np.uint8))
    for at in random.choice(used, 250).tolist():
        damaged = bytearray(raw)
        damaged[at] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            found = read_everything(index)
        except SemsearchError:
            refused += 1
        else:
            changes = [pair for pair in zip(expected, found, strict=True) if pair[0] != pair[1]]
            assert changes == [], f"the byte at {at} was changed without a word"
    assert refused > 25


# ---- checksums


def test_a_row_checksum_tells_columns_types_and_none_apart():
    rows = [
        (), (None,), ("",), (b"",), (0,), (0.0,), ("0",), ("None",), (1, 23), (12, 3), ("a", "bc"),
        ("ab", "c"), ("ab", "c", None), (b"ab", b"c"), (b"a", b"bc"),
    ]  # fmt: skip
    assert len({row_crc(row) for row in rows}) == len(rows)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_the_stamp_is_undone_by_itself_and_names_its_generation(gen, other):
    crc = row_crc((7, "text"))
    assert crc ^ stamp_crc(gen) ^ stamp_crc(gen) == crc
    assert (stamp_crc(gen) == stamp_crc(other)) is (gen == other)
    assert stamp_crc(None) == 0 != stamp_crc(gen)


def test_hashes_do_not_depend_on_the_order_of_metadata_but_on_every_part():
    base = documents.content_hash(Document("a", "text", "title", {"x": 1, "y": [2]}))
    same = documents.content_hash(
        Document("b", "text", "title", {"y": [2], "x": 1}, "elsewhere", 3)
    )
    assert base == same
    others = [
        Document("a", "text ", "title", {"x": 1, "y": [2]}),
        Document("a", "texttitle", "", {"x": 1, "y": [2]}),
        Document("a", "text", "title", {"x": "1", "y": [2]}),
        Document("a", "text", "title", {"x": 1, "y": [2], "z": None}),
        Document("a", "text", "title"),
    ]
    assert len({base, *map(documents.content_hash, others)}) == 6
    assert short_hash("ab", "c") != short_hash("a", "bc")


# ---- identity


def refused(folder, error=Corrupt, match=r"catalog\.db"):
    """Both doors refuse in one line, and change nothing."""
    path = folder / "catalog.db"
    before = path.read_bytes()
    open_files = len(os.listdir("/dev/fd"))
    for door in (open_reader, open_writer):
        with pytest.raises(error, match=match) as caught:
            door(path)
        assert "\n" not in str(caught.value)
    assert len(os.listdir("/dev/fd")) == open_files
    assert path.read_bytes() == before


FOREIGN = [
    "CREATE TRIGGER evil AFTER INSERT ON document BEGIN DELETE FROM passage; END",
    "CREATE TRIGGER evil AFTER INSERT ON _sqlite_migrations BEGIN DELETE FROM document; END",
    "CREATE VIEW evil AS SELECT * FROM document",
    "CREATE TABLE more (x)",
    "CREATE INDEX more ON document(title)",
    "DROP INDEX passage_text",
    "DROP TABLE source",
    "ALTER TABLE document ADD COLUMN more",
    "ALTER TABLE source RENAME TO sauce",
    "CREATE VIRTUAL TABLE words USING fts5(x)",
    "CREATE TABLE _sqlite_migrations2 (x)",
]


@pytest.mark.parametrize("statement", FOREIGN)
def test_a_schema_that_is_not_ours_is_refused(index, statement):
    connection = sqlite3.connect(index / "catalog.db")
    with connection:
        connection.execute(statement)
    connection.close()
    refused(index)


def test_a_hidden_trigger_under_a_name_of_sqlites_own_is_refused(index):
    connection = sqlite3.connect(index / "catalog.db")
    with connection:
        connection.execute("PRAGMA writable_schema = 1")
        connection.execute(
            "INSERT INTO sqlite_master VALUES ('trigger', 'sqlite_evil', 'document', 0,"
            " 'CREATE TRIGGER sqlite_evil AFTER INSERT ON document BEGIN DELETE FROM l0; END')"
        )
    connection.close()
    refused(index)


def pragma(folder, setting):
    connection = sqlite3.connect(folder / "catalog.db")
    with connection:
        connection.execute(f"PRAGMA {setting}")
    connection.close()


@pytest.mark.parametrize("number", [0, 1, 0x53454D54])
def test_another_applications_database_is_refused(index, number):
    pragma(index, f"application_id = {number}")
    refused(index, match="not a semsearch catalog")


def test_a_newer_format_is_refused_naming_both(index):
    pragma(index, "user_version = 99")
    refused(index, Mismatch, match=r"format 99.* up to 1\b.*upgrade")


@pytest.mark.parametrize(
    "raw", [b"x", b"not a database\n" * 400, b"SQLite format 3\0", b"SQLite format 3\0" * 300]
)
def test_a_file_that_is_no_database_is_refused(tmp_path, raw):
    (tmp_path / "catalog.db").write_bytes(raw)
    refused(tmp_path)


def test_random_bytes_are_refused(tmp_path):
    (tmp_path / "catalog.db").write_bytes(np.random.default_rng(1).bytes(40_000))
    refused(tmp_path)


def test_no_index_is_told_apart_from_a_damaged_one(tmp_path):
    with pytest.raises(NotFound, match="semsearch index"):
        Reader(tmp_path / "none")
    (tmp_path / "catalog.db").touch()
    with pytest.raises(NotFound, match="semsearch index"):
        Reader(tmp_path)
    assert not (tmp_path / "none").exists()
    (tmp_path / "folder" / "catalog.db").mkdir(parents=True)
    with pytest.raises(SemsearchError, match="folder"):
        Reader(tmp_path / "folder")


def test_an_empty_file_becomes_a_new_index(tmp_path):
    (tmp_path / "catalog.db").touch()
    with open_for_writing(Layout(tmp_path)) as writer:
        assert writer.snapshot.generation == catalog.NO_GENERATION
    with Reader(tmp_path) as reader:
        assert len(reader.snapshot().rows) == 0


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_vectors_whose_catalog_is_lost_are_not_thrown_away(index, damage):
    segments = sorted((index / "seg").iterdir())
    backup = (index / "catalog.db").read_bytes()
    expected = read_everything(index)
    damage(index / "catalog.db")
    with (
        pytest.raises(Corrupt, match=r"catalog\.db.*missing.*backup"),
        open_for_writing(Layout(index)),
    ):
        pass
    assert sorted((index / "seg").iterdir()) == segments
    (index / "catalog.db").write_bytes(backup)
    assert read_everything(index) == expected


def killed_in_the_middle_of_a_commit(path, statements):
    """Leave the state of a power loss between SQLite's writing of pages and its commit."""
    child = os.fork()
    if child == 0:
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("PRAGMA cache_spill = 1")
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert Path(f"{path}-journal").stat().st_size > 0


LARGE = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("door", ["reader", "writer"])
def test_what_a_killed_commit_wrote_is_rolled_back_by_whoever_opens_next(index, door):
    path = index / "catalog.db"
    expected, before = read_everything(index), path.read_bytes()
    large = LARGE + "INSERT INTO source SELECT 'uri ' || i, 'x', 1, 1 FROM n"
    killed_in_the_middle_of_a_commit(path, ["UPDATE document SET title = 'gone'", large])
    assert path.read_bytes() != before
    if door == "writer":
        with open_for_writing(Layout(index)):
            pass
    assert read_everything(index) == expected
    assert not Path(f"{path}-journal").exists()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_first_run_that_was_killed_in_its_commit_is_no_obstacle(tmp_path):
    path = tmp_path / "catalog.db"
    statements = ["CREATE TABLE meta (k, v)", LARGE + "INSERT INTO meta SELECT i, 'x' || i FROM n"]
    killed_in_the_middle_of_a_commit(path, statements)
    assert path.stat().st_size > 0
    with open_for_writing(Layout(tmp_path)) as writer:
        writer.adopt_encoder(encoder_row(), DIM)
        put(writer, [document(1)])
    assert len(read_everything(tmp_path)[-1]) == 3


# ---- ids and texts

IDS = ["a", "a\0b", "a\0", "\0", "é", "e\u0301", "A", " a", "a ", "", "'", '"', "\\u0000", "1",
       "[1]", "東京", "\U0001f600", "x" * 5000, "%", "?"]  # fmt: skip


@pytest.fixture
def empty(tmp_path):
    database = open_writer(tmp_path / "catalog.db")
    yield database.conn
    database.close()


def test_documents_are_found_by_exactly_their_id(empty):
    empty.execute("BEGIN")
    for number, id in enumerate(IDS[::2], start=1):
        documents.insert_document(empty, number, Document(id, f"text {number}"), 1)
    assert {id: row.body for id, row in documents.live_by_id(empty, [*IDS, "\ud800"]).items()} == {
        id: f"text {number}" for number, id in enumerate(IDS[::2], start=1)
    }
    for id in IDS:
        assert list(documents.live_by_id(empty, [id])) == ([id] if id in IDS[::2] else [])
    many = [f"n{number}" for number in range(2000)]
    assert documents.live_by_id(empty, many) == {}
    assert set(documents.live_by_id(empty, [*many, "a"])) == {"a"}


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_comes_back_as_it_was(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "texts" / "catalog.db"
    database = open_writer(path)
    database.conn.execute("BEGIN")
    wanted = Document(text, text, text, {text: [text]}, text)
    documents.insert_document(database.conn, 1, wanted, 1)
    found = documents.live_by_id(database.conn, [text])
    database.close()
    assert found[text].document == wanted
    assert found[text].source == text


@pytest.mark.parametrize(
    "bad",
    [
        Document("\ud800", "text"),
        Document("a", "te\udcffxt", source="corpus.jsonl", line=3),
        Document("a", "text", "\ud800"),
        Document("a", "text", "", {"k": "\ud800"}),
        Document("a", "text", "", {"\ud800": 1}),
    ],
)
def test_a_lone_surrogate_is_one_line(empty, bad):
    with pytest.raises(InputError, match="lone surrogate") as caught:
        documents.insert_document(empty, 1, bad, 1)
    assert str(caught.value).startswith("corpus.jsonl:3: " if bad.line else "document ")
    str(caught.value).encode()


def test_dead_passages_are_found_without_walking_the_living(index):
    connection = open_reader(index / "catalog.db")
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    found = passages.dead_vids(connection).tolist()
    connection.set_trace_callback(None)
    (doc_id,) = connection.execute("SELECT doc_id FROM document WHERE ext_id = 'd2'").fetchone()
    wanted = connection.execute("SELECT vid FROM passage WHERE doc_id = ?", (doc_id,)).fetchall()
    assert found == sorted(vid for (vid,) in wanted)
    assert found
    (statement,) = statements
    plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
    assert "SCAN" not in str(plan)
    connection.close()


def test_ids_of_rows_are_never_used_again(tmp_path):
    with open_for_writing(Layout(tmp_path)) as writer:
        writer.adopt_encoder(encoder_row(), DIM)
        put(writer, [document(n) for n in range(3)])
        used = writer.snapshot.rows.ids.tolist()
        writer.delete(["d0", "d1", "d2"])
        maintain.compact(writer)
        assert writer.connection.execute("SELECT count(*) FROM passage").fetchone() == (0,)
    with open_for_writing(Layout(tmp_path)) as writer:
        put(writer, [document(9)])
        assert min(writer.snapshot.rows.ids) > max(used)
        rows = documents.live_by_id(writer.connection, ["d9"])
        assert rows["d9"].doc_id == 4


def test_a_read_only_connection_is_never_written_through(index):
    connection = open_reader(index / "catalog.db")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM document")
    connection.close()


def test_settings_that_keep_data_safe_are_on(index):
    database = open_writer(index / "catalog.db")
    values = {
        name: database.conn.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "trusted_schema", "cache_spill")
    }
    database.close()
    assert values == {
        "journal_mode": "delete", "synchronous": 3, "foreign_keys": 1, "trusted_schema": 0,
        "cache_spill": 0,
    }  # fmt: skip


def test_an_unwritable_folder_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match="file"),
        open_for_writing(Layout(tmp_path / "file" / "index")),
    ):
        pass
