"""Backups: whole, checked, durable, or not there; restoring keeps what was there before."""

import hashlib
import os
from pathlib import Path

import pytest

from semsearch import fs
from semsearch.collection import maintain, vector_build
from semsearch.collection.backup import back_up, restore
from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.lexical_cache import build_lexical_cache
from semsearch.collection.reader import Reader
from semsearch.collection.vector_build import build_vector_cache
from semsearch.collection.writer import open_for_writing
from semsearch.errors import Corrupt, InputError, Locked, NotFound, StorageError
from semsearch.index import build
from semsearch.store.database import copy_database
from semsearch.types import Document
from tests.store_model import (
    DIM,
    TOKENS,
    assert_holds,
    encoder_row,
    files_in,
    named_files,
    put,
    small_sizes,
)


def document(number, text="a text of some words"):
    return Document(f"d{number}", f"{text} {number}", "", {"n": number}, "corpus")


DOCUMENTS = {d.id: d for d in map(document, range(30))}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small_sizes(monkeypatch.setattr)
    for module in (vector_build, build):
        monkeypatch.setattr(module, "EXACT_ROWS", 20)


def make(folder):
    documents = list(DOCUMENTS.values())
    with open_for_writing(Layout(folder)) as writer:
        writer.adopt_encoder(encoder_row(), DIM, TOKENS)
        for first in range(0, 30, 6):
            put(writer, documents[first : first + 6])
        maintain.merge_segments(writer)
        build_vector_cache(writer, force=True)
        build_lexical_cache(writer)
    return folder


@pytest.fixture
def index(tmp_path):
    return make(tmp_path / "index")


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(folder).rglob("*")
        if path.is_file() and path.name != "LOCK"
    }


def assert_index(folder, documents):
    with Reader(folder) as reader:
        assert_holds(reader.snapshot(), reader, documents)
        assert [str(finding) for finding in check_index(reader)] == []
        assert files_in(folder) >= named_files(reader.snapshot())


def test_a_backup_is_an_index_that_holds_the_same(index, tmp_path):
    made = back_up(index, tmp_path / "backup")
    assert_index(tmp_path / "backup", DOCUMENTS)
    here, there = contents(index), contents(tmp_path / "backup")
    del here["catalog.db"], there["catalog.db"]  # of one content, not of the same bytes
    assert here == there
    with Reader(index) as reader:
        assert made.generation == reader.snapshot().generation.gen
    assert (made.documents, made.kept) == (30, None)
    files = (tmp_path / "backup").rglob("*")
    assert made.bytes == sum(path.stat().st_size for path in files if path.is_file())


def test_a_backup_shares_no_file_with_the_index(index, tmp_path):
    back_up(index, tmp_path / "backup")
    inodes = [{p.stat().st_ino for p in f.rglob("*")} for f in (index, tmp_path / "backup")]
    assert not inodes[0] & inodes[1]


def test_an_empty_index_is_backed_up_and_restored(tmp_path):
    with open_for_writing(Layout(tmp_path / "index")):
        pass
    assert back_up(tmp_path / "index", tmp_path / "backup").documents == 0
    assert restore(tmp_path / "backup", tmp_path / "again").documents == 0


def test_missing_derived_files_are_left_out(index, tmp_path):
    for folder in ("ann", "lex"):
        for path in (index / folder).iterdir():
            path.unlink()
    back_up(index, tmp_path / "backup")
    assert {name.split("/")[0] for name in contents(tmp_path / "backup")} == {"catalog.db", "seg"}


def test_what_is_beside_is_left_out(index, tmp_path):
    make(index / "beside")
    back_up(index, tmp_path / "backup")
    assert not (tmp_path / "backup" / "beside").exists()


@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_file_merged_away_meanwhile_is_no_error(index, tmp_path, monkeypatch, number):
    """The writer compacts between the copy of the catalog and that of the files, several times."""
    from semsearch.collection import backup

    copied, times = copy_database, 0

    def copy(connection, path):
        nonlocal times
        made = copied(connection, path)
        if times < number:
            times += 1
            with open_for_writing(Layout(index)) as writer:
                put(writer, [document(100 + times)])
                maintain.compact(writer)
        return made

    monkeypatch.setattr(backup, "copy_database", copy)
    back_up(index, tmp_path / "backup")
    added = {d.id: d for d in map(document, range(101, 101 + number))}
    assert_index(tmp_path / "backup", DOCUMENTS | added)
    with Reader(tmp_path / "backup") as reader:
        files = {name for name in files_in(tmp_path / "backup") if not name.startswith("lex/")}
        assert files == named_files(reader.snapshot())


@pytest.mark.parametrize("pattern", ["seg/*.vec", "seg/*.tok", "ann/*.faiss", "lex/*"])
def test_a_damaged_index_is_not_backed_up(index, tmp_path, pattern):
    path = sorted(index.glob(pattern))[0]
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
    with pytest.raises(Corrupt, match=r"damaged, so not copied: .*check") as caught:
        back_up(index, tmp_path / "backup")
    assert path.name in str(caught.value)
    assert not (tmp_path / "backup").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index"]


def test_a_lost_vector_file_is_named(index, tmp_path):
    path = sorted(index.glob("seg/*.vec"))[0]
    path.unlink()
    with pytest.raises(Corrupt, match=path.name):
        back_up(index, tmp_path / "backup")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index"]


def test_there_must_be_an_index(tmp_path):
    with pytest.raises(NotFound):
        back_up(tmp_path / "nothing", tmp_path / "backup")
    with pytest.raises(NotFound):
        restore(tmp_path / "nothing", tmp_path / "index")


@pytest.mark.parametrize("kind", ["file", "folder", "index", "link"])
def test_a_target_that_is_taken_is_refused(index, tmp_path, kind):
    target = tmp_path / "target"
    if kind == "file":
        target.write_text("mine")
    elif kind == "link":
        target.symlink_to(tmp_path / "elsewhere")
    else:
        target.mkdir()
        (target / ("LOCK" if kind == "index" else "mine")).write_text("mine")
    with pytest.raises(InputError, match="target: there is something already"):
        back_up(index, target)
    with pytest.raises(InputError, match="--replace" if kind == "index" else "new folder"):
        restore(index, target)
    if kind != "index":
        with pytest.raises(InputError, match="target: there is something already"):
            restore(index, target, replace=True)


def test_an_empty_folder_is_as_good_as_none(index, tmp_path):
    (tmp_path / "backup").mkdir()
    back_up(index, tmp_path / "backup")
    assert_index(tmp_path / "backup", DOCUMENTS)


def test_restoring_into_a_new_folder(index, tmp_path):
    made = back_up(index, tmp_path / "backup")
    restored = restore(tmp_path / "backup", tmp_path / "deep" / "again", replace=True)
    assert restored == made
    assert_index(tmp_path / "deep" / "again", DOCUMENTS)


def damage(index, how):
    with open_for_writing(Layout(index)) as writer:
        put(writer, [document(n, "a later text") for n in range(20, 40)])
        writer.delete(["d1"])
        maintain.compact(writer)
    if how == "segment":
        path = sorted(index.glob("seg/*.vec"))[0]
        path.write_bytes(path.read_bytes()[:5000])
    elif how == "catalog":
        raw = (index / "catalog.db").read_bytes()
        (index / "catalog.db").write_bytes(raw[:100] + os.urandom(len(raw) - 100))
    elif how == "no catalog":
        (index / "catalog.db").unlink()
    elif how == "journal":
        (index / "catalog.db-journal").write_bytes(os.urandom(4096))
    elif how == "same name":
        for path in index.rglob("*"):
            if path.is_file() and path.suffix in (".vec", ".tok", ".faiss"):
                path.write_bytes(bytes(path.stat().st_size))


HOW = ["nothing", "segment", "catalog", "no catalog", "journal", "same name"]


@pytest.mark.parametrize("how", HOW)
def test_restoring_over_an_index_keeps_what_was_there(index, tmp_path, how):
    back_up(index, tmp_path / "backup")
    damage(index, how)
    before = contents(index)
    restored = restore(tmp_path / "backup", index, replace=True)
    assert restored.kept == index / "kept-1"
    kept = contents(index / "kept-1")
    if how != "journal":
        assert kept == before
    with open_for_writing(Layout(index)) as writer:
        put(writer, [document(50)])
    assert_index(index, DOCUMENTS | {"d50": document(50)})
    assert contents(index / "kept-1") == kept
    assert not (index / "catalog.db-journal").exists()
    assert restore(tmp_path / "backup", index, replace=True).kept == index / "kept-2"
    assert_index(index, DOCUMENTS)


def test_what_was_kept_can_be_searched_and_put_back(index, tmp_path):
    back_up(index, tmp_path / "backup")
    with open_for_writing(Layout(index)) as writer:
        put(writer, [document(70)])
    kept = index / "kept-1"
    assert restore(tmp_path / "backup", index, replace=True).kept == kept
    assert_index(kept, DOCUMENTS | {"d70": document(70)})
    restore(kept, index, replace=True)
    assert_index(index, DOCUMENTS | {"d70": document(70)})


def test_who_has_the_old_one_open_goes_on_reading_it(index, tmp_path):
    back_up(index, tmp_path / "backup")
    with open_for_writing(Layout(index)) as writer:
        put(writer, [document(70)])
    with Reader(index) as reader:
        snapshot = reader.snapshot()
        restore(tmp_path / "backup", index, replace=True)
        assert_holds(snapshot, reader, DOCUMENTS | {"d70": document(70)})
    assert_index(index, DOCUMENTS)


def test_an_index_that_is_written_to_is_not_replaced(index, tmp_path):
    back_up(index, tmp_path / "backup")
    with open_for_writing(Layout(index)) as writer:
        put(writer, [document(70)])
        with pytest.raises(Locked):
            restore(tmp_path / "backup", index, replace=True)
    assert_index(index, DOCUMENTS | {"d70": document(70)})


@pytest.mark.parametrize("pattern", ["catalog.db", "seg/*.vec", "lex/*"])
def test_a_damaged_backup_changes_nothing(index, tmp_path, pattern):
    back_up(index, tmp_path / "backup")
    path = sorted((tmp_path / "backup").glob(pattern))[0]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = contents(index)
    with pytest.raises(Corrupt):
        restore(tmp_path / "backup", index, replace=True)
    with pytest.raises(Corrupt):
        restore(tmp_path / "backup", tmp_path / "again")
    assert contents(index) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backup", "index"]


def test_a_failure_at_any_step_leaves_the_old_index(index, tmp_path, monkeypatch):
    back_up(index, tmp_path / "backup")
    with open_for_writing(Layout(index)) as writer:
        put(writer, [document(70)])
    documents = DOCUMENTS | {"d70": document(70)}
    steps = 0
    for at in range(1, 500):
        seen = 0

        def fail(_step, at=at):
            nonlocal seen
            seen += 1
            if seen == at:
                raise OSError(28, "no space left on device")

        monkeypatch.setattr(fs, "hook", fail)
        try:
            restore(tmp_path / "backup", index, replace=True)
        except StorageError:
            monkeypatch.setattr(fs, "hook", None)
            steps += 1
            try:
                assert_index(index, documents)
            except AssertionError:  # the last step of all comes after the commit
                assert_index(index, DOCUMENTS)
                documents = DOCUMENTS
            continue
        break
    assert steps > 20
    assert_index(index, DOCUMENTS)
