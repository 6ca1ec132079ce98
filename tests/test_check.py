"""The check of a whole index: silent about a sound one, and it finds and names every damage."""

import hashlib
import json
import sqlite3

import numpy as np
import pytest

from semsearch.collection import maintain
from semsearch.collection.check import FILES_OF, check_index
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader, StaleSnapshot
from semsearch.collection.writer import open_for_writing
from semsearch.errors import SEE_CHECK, SemsearchError
from semsearch.maxsim import Codes
from semsearch.store import catalog, documents
from semsearch.store.database import database_errors
from semsearch.store.filters import documents_matching, parse_filter
from semsearch.store.rows import canonical_json, row_crc
from semsearch.store.token_files import write_tokens
from semsearch.types import Document
from tests.store_model import DIM, TOKENS, encoder_row, put, small_sizes

DERIVED = b"a derived file"
WORDS = b"a lexical file"


def document(number, text="some text of two passages"):
    metadata = {"n": number, "tags": ["a", "b", "a"], "none": None, "long": "x" * 300, "o": {}}
    return Document(f"d{number}", f"{text} {number}", "Title", metadata, "corpus.jsonl")


def cache_row(name, kind, files):
    return catalog.CacheRow(name, kind, canonical_json(files), "{}", "{}", 1)


def fill(folder):
    """Two segments, recent vectors, dead documents, a rotation and two derived caches."""
    place = Layout(folder)
    with open_for_writing(place) as writer:
        writer.adopt_encoder(encoder_row(), DIM, TOKENS)
        put(writer, [document(n) for n in range(6)])
        maintain.fit_rotation_if_due(writer)
        put(writer, [document(n) for n in range(6, 12)])
        put(writer, [document(n) for n in range(12, 14)])
        writer.delete(["d2", "d7", "d13"])
        writer.record_source("corpus.jsonl")
        digest = hashlib.sha256(DERIVED).hexdigest()
        words = {"files": {"ab.store": hashlib.sha256(WORDS).hexdigest()}}
        with writer.transaction():
            row = cache_row("a-x.faiss", "faiss", {"a-x.faiss": digest})
            catalog.put_cache(writer.connection, row)
            catalog.put_cache(writer.connection, cache_row("lex", "lexical", words))
    place.ann.mkdir()
    (place.ann / "a-x.faiss").write_bytes(DERIVED)
    place.lexical.mkdir()
    (place.lexical / "ab.store").write_bytes(WORDS)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound") / "index"
    with pytest.MonkeyPatch.context() as patch:
        small_sizes(patch.setattr)
        fill(folder)
    return folder


@pytest.fixture
def index(tmp_path, sound):
    """A copy that may be damaged."""
    folder = tmp_path / "index"
    for path in sound.rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(sound)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return folder


def findings(folder):
    with Reader(folder) as reader:
        found = list(check_index(reader))
    for finding in found:
        assert str(finding) == finding.text.removesuffix(f": {SEE_CHECK}")
        assert "\n" not in finding.text
    return found


def problems(folder):
    found = findings(folder)
    assert not any(finding.is_note for finding in found)
    return [finding.text for finding in found]


def damage(folder, *statements):
    """Run statements without any of our checks."""
    connection = sqlite3.connect(folder / "catalog.db", isolation_level=None)
    for statement in statements:
        connection.execute(*([statement] if isinstance(statement, str) else statement))
    connection.close()


def forge(folder, table, key, **values):
    """Change a row and give it the checksum that belongs to its new values."""
    connection = sqlite3.connect(folder / "catalog.db", isolation_level=None)
    column = connection.execute(f"PRAGMA table_info({table})").fetchone()[1]
    for name, value in values.items():
        connection.execute(f'UPDATE {table} SET "{name}" = ? WHERE {column} = ?', (value, key))
    row = connection.execute(f"SELECT * FROM {table} WHERE {column} = ?", (key,)).fetchone()
    crc = row_crc(row[:-1])
    connection.execute(f"UPDATE {table} SET crc = ? WHERE {column} = ?", (crc, key))
    connection.close()


def test_a_sound_index_yields_nothing(index):
    with Reader(index) as reader:
        snapshot = reader.snapshot()
        assert len(snapshot.segments) == 2
        assert len(snapshot.rows.recent[0])
        assert len(snapshot.dead)
    assert findings(index) == []


def test_an_empty_index_yields_nothing(tmp_path):
    with open_for_writing(Layout(tmp_path)):
        pass
    assert findings(tmp_path) == []


def test_an_index_stays_sound_through_its_reorganisations(tmp_path, monkeypatch):
    small_sizes(monkeypatch.setattr)
    fill(tmp_path)
    with open_for_writing(Layout(tmp_path)) as writer:
        for step in (
            lambda: put(writer, [document(n) for n in range(3, 9)]),
            lambda: put(writer, [document(n, "another") for n in range(20, 30)]),
            lambda: maintain.merge_segments(writer),
            lambda: writer.delete(["d3", "d25"]),
            lambda: maintain.compact(writer),
        ):
            step()
            assert [f for f in findings(tmp_path) if not f.is_note] == []


@pytest.mark.parametrize(
    "table",
    ["meta", "encoder", "rotation", "generation", "source", "document", "passage", "segment",
     "l0", "cache"],
)  # fmt: skip
def test_a_damaged_row_of_every_table_is_named(index, table):
    connection = sqlite3.connect(index / "catalog.db")
    key = connection.execute(f"SELECT * FROM {table}").fetchone()[0]
    connection.close()
    damage(
        index, f"UPDATE {table} SET crc = crc + 1 WHERE rowid = (SELECT min(rowid) FROM {table})"
    )
    expected = f"row {key!r} of table {table} is damaged"
    assert [line for line in problems(index) if expected in line]


def test_damage_that_its_own_checksum_hides_shows_in_the_totals(index):
    with Reader(index) as reader:
        newest = reader.snapshot().generation
    for name, said in [
        ("n_document", "documents"), ("n_passage", "passages"), ("n_seg", "segments"),
        ("sum_crc", "checksum"),
    ]:  # fmt: skip
        value = getattr(newest, name)
        forge(index, "generation", newest.gen, **{name: value + 1})
        assert [
            line for line in problems(index) if f"{value + 1} as {said}, there is {value}" in line
        ]
        forge(index, "generation", newest.gen, **{name: value})
    assert findings(index) == []


def test_lost_rows_are_found(index):
    damage(index, "DELETE FROM passage WHERE vid = 1")
    lines = problems(index)
    assert [line for line in lines if "vector 1 has no passage" in line]
    assert [line for line in lines if "as passages" in line]


def test_a_lost_document_is_found(index):
    damage(index, "DELETE FROM document WHERE doc_id = 1")
    lines = problems(index)
    assert [line for line in lines if "refers to a row of document that is missing" in line]
    assert [line for line in lines if "as documents" in line]


def test_a_passage_without_its_document_is_checked_all_the_same(index):
    damage(
        index,
        "PRAGMA foreign_keys = 0",
        "UPDATE passage SET crc = 0 WHERE vid = (SELECT max(vid) FROM passage WHERE doc_id = 5)",
        "DELETE FROM document WHERE doc_id = 5",
    )
    assert [line for line in problems(index) if "of table passage is damaged" in line]


def test_a_vector_that_is_lost_or_twice_there_is_found(index):
    with Reader(index) as reader:
        recent = reader.snapshot().rows.recent[0].tolist()
        in_file = int(reader.snapshot().rows.ids[0])
    row = ("SELECT 1, encoder_id, rotation_id, vec, tok, crc FROM l0").replace("1", str(in_file), 1)
    damage(index, f"INSERT INTO l0 {row} LIMIT 1", f"DELETE FROM l0 WHERE vid = {recent[0]}")
    forge(index, "l0", in_file)
    lines = problems(index)
    assert f"catalog.db: passage {in_file} has more than one vector" in lines
    assert f"catalog.db: passage {recent[0]} has no vector" in lines


@pytest.mark.parametrize("part", ["header", "vids", "vectors", "table", "missing", "short"])
def test_a_damaged_segment_is_named_and_the_others_are_not(index, part):
    with Reader(index) as reader:
        row = reader.snapshot().segments[1]
    path = index / "seg" / row.name
    raw = bytearray(path.read_bytes())
    at = {"header": 40, "vids": 4096, "vectors": 4096 + row.n * 8 + 3, "table": len(raw) - 1}
    if part == "missing":
        path.unlink()
    else:
        raw[at.get(part, 0)] ^= 16
        path.write_bytes(raw[:-9] if part == "short" else raw)
    lines = problems(index)
    assert len(lines) == 1
    assert lines[0].startswith(str(path))
    assert "the vector file" in lines[0]


@pytest.mark.parametrize("part", ["header", "codes", "offsets", "table", "missing", "short"])
def test_a_damaged_token_file_is_named_and_how_to_repair_it(index, part):
    with Reader(index) as reader:
        row = reader.snapshot().segments[1]
    path = index / "seg" / row.tok_name
    raw = bytearray(path.read_bytes())
    at = {"header": 40, "codes": 4096, "offsets": len(raw) - 13, "table": len(raw) - 1}
    if part == "missing":
        path.unlink()
    else:
        raw[at.get(part, 0)] ^= 16
        path.write_bytes(raw[:-9] if part == "short" else raw)
    (line,) = problems(index)
    state = "missing" if part == "missing" else "damaged"
    again = "`semsearch compact --token-vectors` computes them again"
    assert line == f"{path}: the token vectors are {state}: {again}"


def test_a_token_file_that_cannot_be_opened_is_named(index):
    path = min(index.glob("seg/*.tok"))
    path.unlink()
    path.mkdir()
    lines = [finding.text for finding in findings(index) if finding.part == "tokens"]
    assert [str(path) in line and "compact --token-vectors" in line for line in lines] == [True]


def test_a_token_file_of_other_rows_is_found(index):
    with Reader(index) as reader:
        row, made = reader.snapshot().segments[1], reader.snapshot().tokens.format
    assert made is not None
    codes = np.zeros((5, made.width), np.uint8)
    other = write_tokens(index / "seg", [Codes(codes, np.array([2, -1, 3]))], made)
    assert other is not None
    forge(index, "segment", row.seg_id, tok_name=other.name, tok_sha256=other.sha256)
    lines = [finding.text for finding in findings(index)]
    assert [line for line in lines if f"token vectors of 3 passages beside {row.n}" in line]
    assert [line for line in lines if f"{row.tok_name}: nothing refers to it" in line]


@pytest.mark.parametrize("kind", ["vec", "tok"])
def test_segments_that_changed_places_are_found(index, kind):
    first, second = sorted((index / "seg").glob(f"*.{kind}"))
    raw = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(raw)
    lines = problems(index)
    assert [
        str(path) in line for path, line in zip(sorted([first, second]), sorted(lines), strict=True)
    ]


def test_a_segment_of_other_passages_is_found(index):
    with Reader(index) as reader:
        row = reader.snapshot().segments[1]
    forge(index, "segment", row.seg_id, first_vid=row.first_vid - 1)
    assert [line for line in problems(index) if "holds other passages" in line]


def test_vectors_under_another_rotation_are_found(index):
    with Reader(index) as reader:
        row = reader.snapshot().segments[1]
    forge(index, "segment", row.seg_id, rotation_id=None)
    assert [line for line in problems(index) if "under rotation None, not 1" in line]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM field WHERE key = 'n' AND doc_id = 5",
        "UPDATE field SET value = 99 WHERE key = 'n' AND doc_id = 5",
        "UPDATE field SET kind = 'bool' WHERE key = 'n' AND doc_id = 5",
        "UPDATE field SET key = 'm' WHERE key = 'n' AND doc_id = 5",
        "UPDATE field SET doc_id = 99 WHERE key = 'n' AND doc_id = 5",
        "DELETE FROM field WHERE key = 'long' AND doc_id = 5",
    ],
)
def test_a_filter_field_that_differs_from_its_document_is_found(index, statement):
    damage(index, statement)
    key = "long" if "long" in statement else "n"
    lines = problems(index)
    assert f"catalog.db: the filter field {key!r} of document 'd4' is not as its data" in lines


def test_a_filter_field_of_no_document_is_found(index):
    damage(index, "INSERT INTO field VALUES ('n', 'number', 7, 5)")
    (line,) = problems(index)
    assert "filter fields" in line


def test_a_reused_id_to_come_is_found(index):
    damage(index, "UPDATE sqlite_sequence SET seq = 3 WHERE name = 'passage'")
    (line,) = problems(index)
    assert "the highest vid on record" in line


def test_a_damaged_page_is_found(index):
    path = index / "catalog.db"
    raw = bytearray(path.read_bytes())
    with Reader(index) as reader:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'passage_text'"
        (page,) = reader.connection.execute(query).fetchone()
        (size,) = reader.connection.execute("PRAGMA page_size").fetchone()
    raw[(page - 1) * size + 3] ^= 4  # the number of entries of an index
    path.write_bytes(raw)
    assert [line for line in problems(index) if "catalog.db" in line]


def test_a_setting_that_is_lost_is_found(index):
    damage(index, "DELETE FROM meta WHERE k = 'dims'")
    (line,) = problems(index)
    assert "width" in line


@pytest.mark.parametrize("name", ["ann/a-x.faiss", "lex/ab.store"])
def test_a_derived_file_is_named_when_damaged_and_only_noted_when_gone(index, name):
    path = index / name
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + b"X")
    (line,) = problems(index)
    assert line.startswith(str(path))
    assert "compact" in line
    path.unlink()
    (note,) = findings(index)
    assert note.is_note
    assert note.text.startswith(str(path))


def test_every_kind_of_cache_is_known():
    from semsearch.collection import lexical_cache, vector_cache

    assert set(FILES_OF) == {vector_cache.KIND, lexical_cache.KIND}


@pytest.mark.parametrize(
    ("pattern", "part"),
    [("seg/*.vec", "vectors"), ("seg/*.tok", "tokens"), ("ann/*", "derived"), ("lex/*", "derived")],
)
def test_a_finding_says_of_which_part_it_is(index, pattern, part):
    path = min(index.glob(pattern))
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert {(finding.part, finding.is_note) for finding in findings(index)} == {(part, False)}


def test_damage_of_the_catalog_is_of_the_catalog(index):
    damage(index, "UPDATE source SET crc = 0")
    assert [finding.part for finding in findings(index)] == ["catalog"]


def test_an_unknown_kind_of_cache_is_said(index):
    forge(index, "cache", "lex", kind="graph")
    (line,) = problems(index)
    assert "'graph'" in line


def test_orphans_are_notes(index):
    for name in ("seg/.tmp-1-ab", "seg/s-0.vec", "ann/a-0.faiss"):
        (index / name).write_bytes(b"x")
    found = findings(index)
    assert [finding.is_note for finding in found] == [True] * 3
    assert sorted(f.text.split(":")[0] for f in found) == sorted(
        str(index / name) for name in ("seg/.tmp-1-ab", "seg/s-0.vec", "ann/a-0.faiss")
    )
    with open_for_writing(Layout(index)):
        pass
    assert findings(index) == []


def test_much_damage_is_summed_up(index):
    damage(index, "DELETE FROM l0", "UPDATE passage SET tokens = tokens + 1")
    lines = problems(index)
    assert len([line for line in lines if "table passage is damaged" in line]) == 20
    assert [line for line in lines if "more of this kind" in line]


def test_a_writer_can_commit_as_soon_as_the_catalog_was_read(index):
    with Reader(index) as reader, open_for_writing(Layout(index)) as writer:
        assert list(check_index(reader)) == []
        put(writer, [document(40)])
        abandoned = check_index(reader)
        next(abandoned, None)
        abandoned.close()
        put(writer, [document(41)])
    assert findings(index) == []


def answers(folder):
    """What users can see: documents, vectors, and what filters keep."""
    with Reader(folder) as reader, database_errors(reader.layout.catalog):
        snapshot = reader.snapshot()
        rows = reader.documents_of(snapshot.rows.ids.tolist())
        return (
            [row.document for row in rows.values()],
            snapshot.dead.tolist(),
            snapshot.rows.take(np.arange(len(snapshot.rows))).tolist(),
            [
                documents_matching(reader.connection, parse_filter([expression]), 10**6)
                for expression in ("n>=0", "n!=3", "tags=a", "none=null", "long>a", "n=5")
            ],
            sorted(documents.live_by_id(reader.connection, [f"d{n}" for n in range(14)])),
        )


def test_whatever_bit_flips_the_answers_or_the_check_say_so(index):
    expected = answers(index)
    path = index / "catalog.db"
    raw = path.read_bytes()
    random = np.random.default_rng(23)
    used = np.flatnonzero(np.frombuffer(raw, np.uint8))
    seen = {"refused": 0, "found by the check": 0, "harmless": 0}
    for at in random.choice(used, 200, replace=False).tolist():
        damaged = bytearray(raw)
        damaged[at] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            same = answers(index) == expected
        except (SemsearchError, StaleSnapshot):  # the latter where a row cannot be found
            seen["refused"] += 1
            continue
        if same:
            seen["harmless"] += 1
        else:
            assert [f for f in findings(index) if not f.is_note], f"nothing was said of byte {at}"
            seen["found by the check"] += 1
    assert seen["refused"] > 20


def test_the_check_itself_never_fails_on_a_damaged_catalog(index):
    path = index / "catalog.db"
    raw = path.read_bytes()
    random = np.random.default_rng(29)
    used = np.flatnonzero(np.frombuffer(raw, np.uint8))
    for _ in range(60):
        damaged = bytearray(raw)
        for at in random.choice(used, 4).tolist():
            damaged[at] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            said = [finding.text for finding in findings(index)]
        except SemsearchError as exc:
            said = [str(exc)]
        assert "\n" not in "".join(said)


def test_findings_are_plain_data(index):
    damage(index, "UPDATE meta SET crc = 0")
    for finding in findings(index):
        assert json.loads(json.dumps(finding)) == list(finding)
