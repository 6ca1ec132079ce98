"""Repairing: everything sound is kept as it was, lost vectors are computed, losses are named."""

import shutil
import sqlite3
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from semsearch.collection import health, maintain
from semsearch.collection.check import check_index
from semsearch.collection.health import answers
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.rows import StoredRows
from semsearch.collection.writer import open_for_writing
from semsearch.errors import Corrupt, Locked, Mismatch, ModelError, NotFound, StorageError
from semsearch.indexing import choose_long_text
from semsearch.indexing.repair import remake_derived, repair, survey
from semsearch.store import catalog
from semsearch.types import Document
from tests.fakes import WORDS, FakeEncoder, index_into
from tests.store_model import small_sizes

if TYPE_CHECKING:
    from semsearch.encoders import Encoder
    from semsearch.store.catalog import EncoderRow

DOCUMENTS = [
    Document(
        f"d{n}", " ".join(WORDS[(n * 7 + i) % len(WORDS)] for i in range(5 + n * 3)), f"Title {n}",
        {"n": n, "tags": ["a", "b"]}, "corpus",
    )
    for n in range(40)
]  # fmt: skip
ENCODER = cast("Encoder", FakeEncoder(max_length=32))


def add(folder, documents):
    index_into(folder, ENCODER, documents)


class Loader:
    """Gives the model, and remembers of which record it was asked for."""

    def __init__(self):
        self.asked: list[EncoderRow | None] = []

    def __call__(self, recorded):
        self.asked.append(recorded)
        return ENCODER


def refuse(_):
    pytest.fail("nothing is lost that a model would have to compute")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small_sizes(monkeypatch.setattr)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Segments, recent vectors, long documents, a rotation, deleted documents, a tuned setting."""
    place = tmp_path_factory.mktemp("sound") / "index"
    with pytest.MonkeyPatch.context() as patch:
        small_sizes(patch.setattr)
        fill(place)
    return place


@pytest.fixture
def folder(tmp_path, sound):
    return shutil.copytree(sound, tmp_path / "index")


def fill(place):
    add(place, DOCUMENTS[:30])
    with open_for_writing(Layout(place)) as writer:
        choose_long_text(writer, "chunk")
        writer.delete(["d3", "d17"])
    add(place, DOCUMENTS[30:])
    add(place, [RECENT])
    with open_for_writing(Layout(place)) as writer, writer.transaction():
        catalog.set_meta(writer.connection, "ranking", '{"fusion":"rrf"}')


RECENT = Document("recent", "bab cac", "", {"n": 99}, "corpus")
LIVE = {d.id: d for d in [*DOCUMENTS, RECENT] if d.id not in ("d3", "d17")}


def held(folder):
    """What an index holds: documents, and each one's passages with vectors and codes."""
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        ids = np.setdiff1d(snapshot.rows.ids, snapshot.dead)
        at = snapshot.ordinals(ids)
        vectors = snapshot.rows.take(at)
        if snapshot.rotation is not None and vectors.shape[1] == len(snapshot.rotation):
            vectors = vectors @ snapshot.rotation.T
        present, codes = snapshot.tokens.take(at)
        parts = np.split(codes.codes, np.cumsum(codes.counts)[:-1])
        found = reader.passages_of(ids.tolist())
        passages = {}
        for vid, vector, there, part in zip(ids.tolist(), vectors, present, parts, strict=True):
            row, document = found[vid]
            passages[document.ext_id, row.ord] = (
                row.start, row.end, vector, part.tobytes() if there else None,
            )  # fmt: skip
        return {d.id: d for d in reader.documents()}, passages


def assert_same(now, before, *, without=(), exactly=True):
    documents, passages = now
    gone = set(without)
    assert documents == {id: d for id, d in before[0].items() if id not in gone}
    assert set(passages) == {key for key in before[1] if key[0] not in gone}
    for key, (start, end, vector, codes) in passages.items():
        other = before[1][key]
        assert (start, end) == other[:2]
        np.testing.assert_allclose(vector, other[2], atol=1e-6 if exactly else 2e-3)
        assert codes == other[3]


def assert_sound(folder):
    with Reader(folder) as reader:
        assert [str(finding) for finding in check_index(reader)] == []


def settings(folder):
    with Reader(folder) as reader:
        rows = reader.connection.execute("SELECT k, v FROM meta").fetchall()
        return dict(rows), reader.sources()


def run(folder, *statements):
    connection = sqlite3.connect(folder / "catalog.db", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def flip(path, at):
    raw = bytearray(path.read_bytes())
    raw[at if at >= 0 else len(raw) + at] ^= 16
    path.write_bytes(raw)


def segment(folder, number=1):
    with Reader(folder) as reader:
        return Layout(folder).segments / reader.snapshot().segments[number].name


def test_the_index_is_what_the_tests_need(folder):
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        assert snapshot.rotation is not None
        assert len(snapshot.segments) > 1
        assert len(snapshot.dead)
    documents, passages = held(folder)
    assert documents == LIVE
    assert len(passages) > len(documents)
    assert any(codes for *_, codes in passages.values())


def test_a_sound_index_is_copied_as_it_is(folder):
    before, kept = held(folder), settings(folder)
    looked = survey(folder)
    assert (looked.documents, looked.computed, looked.lost_documents) == (len(LIVE), 0, 0)
    done = repair(folder, refuse)
    assert (done.documents, done.passages, done.computed) == (len(LIVE), len(before[1]), 0)
    assert (done.lost, done.lost_documents, done.kept) == ([], 0, folder / "kept-1")
    assert_same(held(folder), before)
    assert_sound(folder)
    now = settings(folder)
    assert now[1] == kept[1]
    own = {"active_rotation", "horizon"}
    assert {k: v for k, v in now[0].items() if k not in own} == {
        k: v for k, v in kept[0].items() if k not in own
    }
    assert held(folder / "kept-1")[0] == LIVE


def test_ids_and_generations_go_on_where_they_were(folder):
    with Reader(folder) as reader:
        before = reader.snapshot()
        rows = reader.connection.execute("SELECT max(doc_id) FROM document").fetchone()[0]
    repair(folder, refuse)
    with Reader(folder) as reader:
        after = reader.snapshot()
        assert after.generation.gen > before.generation.gen
        assert after.rows.ids.min() > before.rows.ids.max()
        assert reader.connection.execute("SELECT min(doc_id) FROM document").fetchone()[0] > rows


@pytest.mark.parametrize("part", ["header", "vids", "vectors", "table", "missing", "short"])
def test_lost_vectors_are_computed_again(folder, part):
    before, path = held(folder), segment(folder)
    with Reader(folder) as reader:
        row = reader.snapshot().segments[1]
    if part == "missing":
        path.unlink()
    elif part == "short":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        flip(path, {"header": 30, "vids": 4100, "vectors": 4096 + row.n * 8 + 5, "table": -1}[part])
    looked = survey(folder)
    assert looked.lost_documents == 0
    assert 0 < looked.computed < len(before[1])
    load = Loader()
    done = repair(folder, load)
    assert [row and row.fingerprint for row in load.asked] == [ENCODER.fingerprint]
    assert done.computed >= looked.computed
    assert (done.documents, done.lost_documents) == (len(LIVE), 0)
    assert_same(held(folder), before, exactly=False)
    assert_sound(folder)


def test_recent_vectors_that_are_lost_are_computed_again(folder):
    before = held(folder)
    with open_for_writing(Layout(folder)) as writer:
        recent = writer.snapshot.rows.recent[0].tolist()
    assert recent
    run(folder, f"UPDATE l0 SET vec = zeroblob(8) WHERE vid = {recent[0]}")
    assert survey(folder).computed == 1
    assert repair(folder, Loader()).computed >= 1
    assert_same(held(folder), before, exactly=False)
    assert_sound(folder)


def test_a_damaged_token_file_costs_codes_alone(folder):
    before = held(folder)
    with Reader(folder) as reader:
        name = reader.snapshot().segments[0].tok_name
    assert name is not None
    flip(Layout(folder).segments / name, 40)
    assert survey(folder).computed == 0
    repair(folder, refuse)
    documents, passages = held(folder)
    assert documents == before[0]
    lost = [key for key in passages if passages[key][3] != before[1][key][3]]
    assert lost
    assert all(passages[key][3] is None for key in lost)
    assert_sound(folder)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE document SET body = body || 'x' WHERE ext_id IN ('d5', 'd9')",
        "UPDATE document SET crc = crc + 1 WHERE ext_id IN ('d5', 'd9')",
        "UPDATE document SET deleted_gen = 2 WHERE ext_id IN ('d5', 'd9')",
        "UPDATE document SET meta = '{' WHERE ext_id IN ('d5', 'd9')",
    ],
)
def test_damaged_documents_are_named_and_left_out(folder, damage):
    before = held(folder)
    run(folder, damage)
    looked = survey(folder)
    assert (sorted(looked.lost), looked.lost_documents) == (["d5", "d9"], 2)
    done = repair(folder, refuse)
    assert (sorted(done.lost), done.lost_documents, done.documents) == (
        ["d5", "d9"], 2, len(LIVE) - 2,
    )  # fmt: skip
    assert_same(held(folder), before, without=["d5", "d9"])
    assert_sound(folder)


def test_rows_that_are_gone_are_counted(folder):
    before = held(folder)
    run(folder, "PRAGMA foreign_keys = 0", "DELETE FROM document WHERE ext_id = 'd7'")
    assert (survey(folder).lost, survey(folder).lost_documents) == ([], 1)
    assert repair(folder, refuse).lost_documents == 1
    assert_same(held(folder), before, without=["d7"])
    assert_sound(folder)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM passage WHERE vid % 5 = 1",
        "UPDATE passage SET crc = crc + 1 WHERE vid % 5 = 1",
        'UPDATE passage SET "end" = "end" - 1 WHERE vid % 5 = 1',
        "UPDATE passage SET ord = 7 WHERE vid % 5 = 1",
    ],
)
def test_damaged_passages_are_cut_and_encoded_again(folder, damage):
    before = held(folder)
    run(folder, "PRAGMA foreign_keys = 0", damage)
    assert survey(folder).lost_documents == 0
    done = repair(folder, Loader())
    assert done.computed > 0
    assert_same(held(folder), before, exactly=False)
    assert_sound(folder)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM field WHERE key = 'n'",
        "DELETE FROM generation",
        "UPDATE generation SET n_document = n_document + 1",
        "DELETE FROM segment",
        "UPDATE source SET crc = 0",
        "DELETE FROM meta WHERE k = 'dims'",
        "DELETE FROM meta WHERE k = 'active_encoder'",
    ],
)
def test_lost_bookkeeping_is_made_again(folder, damage):
    before = held(folder)
    run(folder, "PRAGMA foreign_keys = 0", damage)
    repair(folder, Loader())
    assert_same(held(folder), before, exactly=False)
    assert_sound(folder)
    with Reader(folder) as reader:
        fields = reader.connection.execute("SELECT count(*) FROM field WHERE key = 'n'")
        assert fields.fetchone()[0] == len(LIVE)


@pytest.mark.parametrize(
    "damage", ["UPDATE encoder SET crc = 0", "DELETE FROM rotation", "UPDATE rotation SET crc = 0"]
)
def test_without_the_record_of_the_model_everything_is_encoded_again(folder, damage):
    before = held(folder)
    run(folder, "PRAGMA foreign_keys = 0", damage)
    load = Loader()
    done = repair(folder, load)
    assert load.asked == [None]
    assert done.computed == done.passages == len(before[1])
    assert_same(held(folder), before, exactly=False)
    assert_sound(folder)


def test_another_model_changes_nothing(folder):
    segment(folder).unlink()
    with pytest.raises(Mismatch):
        repair(folder, lambda _: cast("Encoder", FakeEncoder(name="another")))
    assert not (folder / "kept-1").exists()
    assert sorted(p.name for p in folder.glob(".tmp-*")) == []


def test_a_model_that_gives_no_vectors_changes_nothing(folder):
    class Broken(FakeEncoder):
        def vector(self, text):
            return super().vector(text) * np.float32("nan")

    segment(folder).unlink()
    with pytest.raises(ModelError, match="a vector without a direction"):
        repair(folder, lambda _: cast("Encoder", Broken(max_length=32)))
    assert not (folder / "kept-1").exists()


def zero_pages(folder, holding=None, root_of=None):
    """Lose the pages that hold some bytes, or the first one of a table; returns their numbers."""
    connection = sqlite3.connect(folder / "catalog.db")
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
    root = connection.execute(query, (root_of,)).fetchone()
    connection.close()
    raw = bytearray((folder / "catalog.db").read_bytes())
    pages = [at for at in range(0, len(raw), size) if holding and holding in raw[at : at + size]]
    if root:
        pages.append((root[0] - 1) * size)
    for at in pages:
        raw[at : at + size] = bytes(size)
    (folder / "catalog.db").write_bytes(raw)
    return pages


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_torn_page_of_documents_costs_those_on_it(tmp_path, where):
    """Rows of about a page each: whatever page is lost, all others are kept."""
    folder = tmp_path / "large"
    documents = [Document(f"d{n}", f"{WORDS[n]} " * 600, "", {}, "corpus") for n in range(12)]
    add(folder, documents)
    wanted = {"first": "d0", "middle": "d6", "last": "d11"}[where]
    assert zero_pages(folder, wanted.encode() + b"corpus")
    looked = survey(folder)
    assert looked.recorded == 12
    assert looked.lost_documents == 12 - looked.documents
    done = repair(folder, Loader())
    assert done.documents == looked.documents
    found = set(held(folder)[0])
    assert len(found) >= 10
    assert {"d0", "d6", "d11"} - found == {wanted}
    assert_sound(folder)


def test_an_index_without_any_document_left_is_not_repaired(folder):
    assert zero_pages(folder, root_of="document")
    before = (folder / "catalog.db").read_bytes()
    with pytest.raises(Corrupt, match=r"nothing of it can be read: .*restore BACKUP"):
        repair(folder, Loader())
    assert (folder / "catalog.db").read_bytes() == before
    assert not (folder / "kept-1").exists()


def test_a_catalog_of_which_nothing_can_be_read_says_so(folder):
    (folder / "catalog.db").write_bytes(b"\0" * 8192)
    for call in (survey, lambda f: repair(f, refuse)):
        with pytest.raises(Corrupt, match=r"nothing of it can be read: .*restore BACKUP"):
            call(folder)


def test_there_must_be_an_index(tmp_path):
    with pytest.raises(NotFound):
        survey(tmp_path / "nothing")
    with pytest.raises(NotFound):
        repair(tmp_path / "nothing", refuse)
    assert not (tmp_path / "nothing").exists()


def test_an_index_that_is_written_to_is_not_repaired(folder):
    with open_for_writing(Layout(folder)), pytest.raises(Locked):
        repair(folder, refuse)


def test_an_empty_index_is_repaired(tmp_path):
    with open_for_writing(Layout(tmp_path)):
        pass
    assert repair(tmp_path, refuse).documents == 0
    assert_sound(tmp_path)


def test_a_failure_leaves_the_damaged_index(folder, monkeypatch):
    from semsearch import fs

    def fail(step):
        if step == "rename":
            raise OSError(28, "no space left on device")

    segment(folder).unlink()
    monkeypatch.setattr(fs, "hook", fail)
    with pytest.raises(StorageError):
        repair(folder, Loader())
    monkeypatch.setattr(fs, "hook", None)
    assert not (folder / "kept-1").exists()
    assert repair(folder, Loader()).lost_documents == 0
    assert_sound(folder)


def test_derived_files_are_made_again(folder):
    before = held(folder)
    for path in (folder / "lex").iterdir():
        flip(path, -1)
    with Reader(folder) as reader:
        assert [f.part for f in check_index(reader)] != []
        assert {f.part for f in check_index(reader)} == {"derived"}
    assert remake_derived(folder) == 0
    assert_same(held(folder), before)
    assert_sound(folder)


def test_what_still_answers(folder):
    assert set(answers(folder).values()) == {"yes"}
    path = segment(folder)
    flip(path, -300)
    found = answers(folder)
    assert found.pop("search by vectors").startswith("refused where it meets the damage: ")
    assert set(found.values()) == {"yes"}
    path.unlink()
    found = answers(folder)
    assert found["documents by id and export"] == "yes"
    assert found["search by vectors"].startswith("no: ")
    assert found["search by words"].startswith("no: ")
    run(folder, "UPDATE document SET crc = 0 WHERE ext_id = 'd30'")
    said = answers(folder)["documents by id and export"]
    assert said.startswith("as far as they are sound, of which export lists 0: catalog.db: row ")


def test_vectors_are_asked_for_block_by_block(folder, monkeypatch):
    asked = []
    real = StoredRows.block

    def block(self, start, stop):
        asked.append((start, stop))
        return real(self, start, stop)

    monkeypatch.setattr(StoredRows, "block", block)
    monkeypatch.setattr(health, "_BLOCK", 10)
    answers(folder)
    with Reader(folder) as reader:
        count = len(reader.snapshot().rows)
    assert asked == [(at, min(at + 10, count)) for at in range(0, count, 10)]


@pytest.mark.parametrize("row", [0, -1])
def test_every_vector_is_asked_for(folder, row):
    """Also the first one and the last one of a file."""
    path = segment(folder, 0)
    with Reader(folder) as reader:
        count = reader.snapshot().segments[0].n
        width = reader.snapshot().rows.dim * 2
    flip(path, 4096 + count * 8 + (row % count) * width)
    found = answers(folder)["search by vectors"]
    assert found.startswith("refused where it meets the damage: ")
    assert found.endswith("the vector file is damaged")


def test_how_many_documents_can_still_be_listed(folder, monkeypatch):
    monkeypatch.setattr("semsearch.store.documents.BATCH", 5)
    run(folder, "UPDATE document SET crc = 0 WHERE ext_id = 'd30'")
    live = [d.id for d in DOCUMENTS if d.id in LIVE]
    whole = live.index("d30") // 5 * 5
    assert f"export lists {whole}: " in answers(folder)["documents by id and export"]


def test_maintenance_goes_on_after_a_repair(folder):
    segment(folder).unlink()
    repair(folder, Loader())
    added = [Document(f"e{n}", f"{WORDS[n]} {WORDS[n + 1]}", "", {}, "corpus") for n in range(30)]
    add(folder, added)
    with open_for_writing(Layout(folder)) as writer:
        writer.delete(["d1"])
        maintain.compact(writer)
    expected = {id: d for id, d in LIVE.items() if id != "d1"} | {d.id: d for d in added}
    assert held(folder)[0] == expected
    assert_sound(folder)
