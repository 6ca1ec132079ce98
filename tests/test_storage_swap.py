"""What a swap writes, step by step, and which ids an index beside another one uses."""

import json
import os

import numpy as np
import pytest

from semsearch import fs
from semsearch.collection import layout, maintain
from semsearch.collection.beside import FOLLOWED, SERVED, beside_of, choices_of
from semsearch.collection.changes import Tally
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.replace import keep_and_replace
from semsearch.collection.swap import fresh_ids, shares_ids, swap_beside
from semsearch.collection.writer import Writer, open_for_writing
from semsearch.errors import StorageError
from semsearch.store import catalog
from semsearch.types import Document
from semsearch.vectors import fit_rotation, widen
from tests.store_model import DIM, TOKENS, assert_holds, encoder_row, put, small_sizes

ERA = 1 << 40


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small_sizes(monkeypatch.setattr)


def documents(count, text="some text of number"):
    return [Document(f"d{n}", f"{text} {n}", "", {}, "c") for n in range(count)]


def held(many):
    return {document.id: document for document in many}


def make(folder, many, *, beside_of: Writer | None = None):
    with open_for_writing(Layout(folder)) as writer:
        if beside_of is not None:
            fresh_ids(beside_of, writer)
        writer.adopt_encoder(encoder_row(), DIM, TOKENS)
        put(writer, many)


def make_beside(folder, many):
    with open_for_writing(Layout(folder)) as live:
        make(folder / "beside", many, beside_of=live)


def swap(folder):
    with open_for_writing(Layout(folder)) as live:
        swap_beside(live)


def ids_of(folder):
    with Reader(folder) as reader:
        first = reader.connection.execute("SELECT min(doc_id), max(doc_id) FROM document")
        return first.fetchone(), reader.snapshot().rows.ids.tolist()


def setting(folder, key):
    with Reader(folder) as reader:
        return catalog.get_meta(reader.connection, key)


def test_each_index_beside_starts_its_ids_where_none_was(tmp_path):
    folder = tmp_path / "idx"
    make(folder, documents(3))
    make_beside(folder, documents(3))
    assert ids_of(folder)[0] == (1, 3)
    rows, vids = ids_of(folder / "beside")
    assert rows == (ERA + 1, ERA + 3)
    assert vids == list(range(ERA + 1, ERA + 1 + len(vids)))
    with open_for_writing(Layout(folder)) as live, open_for_writing(Layout(folder).beside) as other:
        assert not shares_ids(live, other)
        assert shares_ids(live, live)
    swap(folder)
    assert ids_of(folder)[0] == (ERA + 1, ERA + 3)
    assert ids_of(folder / "beside")[0] == (1, 3)
    assert setting(folder / "beside", "era") == "1"
    swap(folder)  # put back: the next one starts above both all the same
    assert ids_of(folder)[0] == (1, 3)
    with open_for_writing(Layout(folder)) as live:
        fs.remove_folder(live.layout.beside.folder)
    make_beside(folder, documents(3))
    assert ids_of(folder / "beside")[0] == (2 * ERA + 1, 2 * ERA + 3)
    assert setting(folder / "beside", "era") == "2"


def test_an_index_beside_without_documents_has_its_own_ids_already(tmp_path):
    make(tmp_path, documents(3))
    place = Layout(tmp_path)
    with open_for_writing(place) as live, open_for_writing(place.beside) as other:
        fresh_ids(live, other)
        assert not shares_ids(live, other)
        assert catalog.next_id(other.connection, "passage") == ERA + 1


def test_what_served_says_so_and_what_it_has_followed(tmp_path):
    folder = tmp_path / "idx"
    make(folder, documents(3))
    make_beside(folder, documents(3))
    with Reader(folder) as reader:
        before = reader.snapshot().generation.gen
    with Reader(folder / "beside") as reader:
        followed = choices_of(reader.connection)
    swap(folder)
    assert setting(folder / "beside", SERVED) == str(before)
    assert json.loads(setting(folder / "beside", FOLLOWED) or "") == followed
    assert setting(folder, SERVED) is None
    found = beside_of(Layout(folder))
    assert found is not None
    assert found.served
    with Reader(folder) as reader:
        gen = reader.snapshot().generation.gen
        assert gen == before + 1
        assert catalog.get_meta(reader.connection, catalog.SWAPPED) == str(gen)
        assert catalog.get_meta(reader.connection, catalog.HORIZON) == str(gen)
        assert_holds(reader.snapshot(), reader, held(documents(3)))
    assert sorted(path.name for path in folder.iterdir()) == ["LOCK", "beside", "catalog.db"]


def test_what_served_is_on_disk_before_the_commit_that_ends_it(tmp_path, monkeypatch):
    folder = tmp_path / "idx"
    make(folder, documents(12))
    make_beside(folder, documents(12))
    trace = []
    real = os.fsync

    def fsync(fd):
        trace.append(("fsync", os.readlink(f"/proc/self/fd/{fd}")))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(fs, "hook", lambda step: trace.append((step, "")))
    swap(folder)
    done = trace.index(("swap", ""))
    flushed = [path.removeprefix(f"{folder}") for step, path in trace[:done] if step == "fsync"]
    # the files of the index beside; then, in a folder without its name, those of the old one
    assert "/seg" in flushed
    place = [path for path in flushed if path.startswith("/.tmp-")]
    assert [path.split("/")[2:] for path in place] == [[], ["seg"], ["catalog.db"], []]
    assert flushed[-1] == ""  # the folder, in which it has its name now
    names = [step for step, _ in trace[:done]]
    assert names.index("rename") > max(
        number for number, (_, path) in enumerate(trace[:done]) if path.endswith("catalog.db")
    )


def test_a_replaced_index_is_kept_and_its_files_leave(tmp_path, monkeypatch):
    folder = tmp_path / "idx"
    make(folder, documents(12))
    make(folder / "new", documents(8, "another text"))
    with Reader(folder) as reader:
        old = [row.name for row in reader.snapshot().segments]
    (folder / "seg" / ".tmp-left").write_bytes(b"1")
    (folder / "seg" / "link").symlink_to("/etc/hostname")
    (folder / "kept-1").mkdir()
    (folder / "catalog.db-journal").write_bytes(b"")
    steps: list[str] = []
    monkeypatch.setattr(fs, "hook", steps.append)
    kept = keep_and_replace(Layout(folder), Layout(folder / "new"))
    assert kept == folder / "kept-2"
    with Reader(folder) as reader:
        assert_holds(reader.snapshot(), reader, held(documents(8, "another text")))
        names = [row.name for row in reader.snapshot().segments]
    with Reader(kept) as reader:
        assert_holds(reader.snapshot(), reader, held(documents(12)))
    left = {path.name for path in (folder / "seg").iterdir()}
    assert left & set(old) == set()
    assert set(names) <= left
    assert ".tmp-left" in left  # the next writer removes it
    assert (folder / "seg" / "link").is_symlink()
    assert not (kept / "seg" / "link").exists()
    assert not (folder / "catalog.db-journal").exists()
    assert steps.index("link") < steps.index("rename")


def test_what_is_left_over_does_not_undo_what_is_done(tmp_path, monkeypatch):
    folder = tmp_path / "idx"
    make(folder, documents(12))
    make(folder / "new", documents(8, "another text"))
    removed = []

    def hook(step):
        if step == "unlink":
            removed.append(step)
            if len(removed) > 1:
                raise OSError(5, "it broke")

    monkeypatch.setattr(fs, "hook", hook)
    keep_and_replace(Layout(folder), Layout(folder / "new"))
    monkeypatch.setattr(fs, "hook", None)
    assert len(removed) == 2
    with Reader(folder) as reader:
        assert_holds(reader.snapshot(), reader, held(documents(8, "another text")))


def test_a_replacement_that_cannot_be_named_changes_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "idx"
    make(folder, documents(12))
    make(folder / "new", documents(8, "another text"))

    def hook(step):
        if step == "rename":
            raise OSError(28, "full")

    monkeypatch.setattr(fs, "hook", hook)
    with pytest.raises(StorageError):
        keep_and_replace(Layout(folder), Layout(folder / "new"))
    monkeypatch.setattr(fs, "hook", None)
    with Reader(folder) as reader:
        assert_holds(reader.snapshot(), reader, held(documents(12)))
    assert not (folder / "kept-1").exists()


# What reorganising reads and writes.


def test_a_rotation_is_fitted_on_the_first_live_vectors(tmp_path, monkeypatch):
    monkeypatch.setattr(maintain, "_BLOCK", 4)
    monkeypatch.setattr(layout, "ROTATION_SAMPLE", 9)
    monkeypatch.setattr(layout, "ROTATION_ROWS_PER_DIM", 1000)
    seen = []

    def fit(blocks, dim):
        seen.extend(blocks)
        return fit_rotation(iter(seen), dim)

    monkeypatch.setattr(maintain, "fit_rotation", fit)
    with open_for_writing(Layout(tmp_path)) as writer:
        writer.adopt_encoder(encoder_row(), DIM, TOKENS)
        many = [Document(f"d{n}", f"text {n}", "", {}, "c") for n in range(20)]  # a passage each
        put(writer, many)
        writer.delete(["d1", "d6"])
        snapshot = writer.snapshot
        assert snapshot.alive is not None
        live = snapshot.rows.block(0, 20)[snapshot.alive]
        maintain.rewrite(writer, refit=True)
        assert [len(block) for block in seen] == [3, 3, 3]
        np.testing.assert_array_equal(np.concatenate(seen), widen(live[:9]))
        assert catalog.rotation_size(writer.connection, writer.snapshot.rotation_id) == 9
        assert len(writer.snapshot.rows) == 18


def test_totals_take_what_is_removed_away(tmp_path):
    with open_for_writing(Layout(tmp_path)) as writer:
        writer.adopt_encoder(encoder_row(), DIM)
        put(writer, documents(3))
        now = writer.snapshot.generation
        with writer.transaction():
            tally = Tally(now.gen + 1, now.n_document, now.n_passage, now.sum_crc)
            tally.remove(writer.connection, [1, 3])
            assert (tally.documents, tally.passages) == (1, now.n_passage - 4)
            tally.remove(writer.connection, [2])
            assert (tally.documents, tally.passages, tally.crc) == (0, 0, 0)
            catalog.add_generation(
                writer.connection, catalog.GenerationRow(now.gen + 1, 0, 0, 0, 0)
            )
        writer.refresh()
        assert writer.snapshot.last_vid == now.n_passage


def test_nothing_stored_has_no_last_passage(tmp_path):
    with open_for_writing(Layout(tmp_path)) as writer:
        assert writer.snapshot.last_vid == 0
        assert writer.snapshot.alive is None
        assert writer.snapshot.cache("lexical") is None


def test_a_listing_that_a_swap_emptied_says_so(tmp_path, monkeypatch):
    """All that took its place is newer than the listing: nothing more is found, nor missed."""
    monkeypatch.setattr("semsearch.store.documents.BATCH", 2)
    folder = tmp_path / "idx"
    make(folder, documents(6))
    with open_for_writing(Layout(folder)) as live, open_for_writing(Layout(folder).beside) as other:
        fresh_ids(live, other)
        other.adopt_encoder(encoder_row(), DIM, TOKENS)
        put(other, [Document("first", "text", "", {}, "c")])
        put(other, documents(6))
        other.delete(["first"])
    with Reader(folder) as reader:
        listing = reader.documents()
        assert next(listing).id == "d0"
        swap(folder)
        with pytest.raises(StorageError, match="another model's index took its place meanwhile"):
            list(listing)


def test_a_journal_that_cannot_be_rolled_back_is_kept_with_its_catalog(tmp_path):
    """Beside the new catalog it would be rolled into that."""
    folder = tmp_path / "idx"
    make(folder, documents(12))
    make(folder / "new", documents(8, "another text"))
    catalog_before = (folder / "catalog.db").read_bytes()
    journal = b"/etc/passwd" + bytes.fromhex("d9d505f920a163d7")  # refused: it names another file
    (folder / "catalog.db-journal").write_bytes(journal)
    kept = keep_and_replace(Layout(folder), Layout(folder / "new"))
    assert not (folder / "catalog.db-journal").exists()
    assert (kept / "catalog.db-journal").read_bytes() == journal
    assert (kept / "catalog.db").read_bytes() == catalog_before
    with Reader(folder) as reader:
        assert_holds(reader.snapshot(), reader, held(documents(8, "another text")))


def test_an_index_without_a_catalog_is_replaced_too(tmp_path):
    folder = tmp_path / "idx"
    make(folder, documents(12))
    make(folder / "new", documents(8, "another text"))
    (folder / "catalog.db").unlink()
    kept = keep_and_replace(Layout(folder), Layout(folder / "new"))
    assert sorted(path.name for path in kept.iterdir()) == ["seg"]
    with Reader(folder) as reader:
        assert_holds(reader.snapshot(), reader, held(documents(8, "another text")))


@pytest.mark.parametrize(("dims", "again"), [(4, False), (DIM, True)])
def test_cut_vectors_keep_their_rotation(tmp_path, monkeypatch, dims, again):
    """They have lost the dimensions that another one would need; whole ones get it in time."""
    monkeypatch.setattr(layout, "ROTATION_SAMPLE", 1000)
    many = [Document(f"d{n}", f"text {n}", "", {}, "c") for n in range(60)]
    with open_for_writing(Layout(tmp_path)) as writer:
        writer.adopt_encoder(encoder_row(), dims, TOKENS)
        put(writer, many[:16])
        maintain.fit_rotation_if_due(writer, 17)
        assert catalog.next_id(writer.connection, "rotation") == 1  # there is none
        maintain.fit_rotation_if_due(writer)
        first = writer.snapshot.rotation_id
        assert first is not None
        assert (writer.width, writer.snapshot.rows.dim) == (dims, dims)
        put(writer, many[16:31])
        maintain.compact(writer)
        assert writer.snapshot.rotation_id == first
        put(writer, many[31:])
        maintain.compact(writer)
        assert (writer.snapshot.rotation_id != first) == again
        assert len(writer.snapshot.segments) == 1
    with Reader(tmp_path) as reader:
        assert_holds(reader.snapshot(), reader, held(many))
