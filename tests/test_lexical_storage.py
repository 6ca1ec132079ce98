"""The lexical folder: crashes, damage, versions, read-only folders, readers beside a writer."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semsearch import fs
from semsearch.errors import Corrupt, Mismatch, StorageError, UsageError
from semsearch.lexical import files
from semsearch.lexical.reader import LexicalIndex
from semsearch.lexical.state import LexicalState
from semsearch.lexical.writer import LexicalWriter
from tests.lexical_oracle import Oracle, assert_is_best

QUERIES = ["w0", "w1 w2", "w9 w3 w0", "nothing"]


def texts_for(vids):
    return [
        " ".join(random.Random(int(v)).choices([f"w{i}" for i in range(12)], k=9)) for v in vids
    ]


def add(writer, start, stop):
    vids = np.arange(start, stop, dtype=np.int64)
    writer.add(vids, texts_for(vids))


def build(folder, state=None, *steps):
    """One commit for each (start, stop)."""
    with LexicalWriter(folder, state) as writer:
        for start, stop in steps:
            add(writer, start, stop)
            state = writer.commit()
    return state


def assert_holds(folder, state, start, stop):
    """The state's answers are exactly those over the passages from start to stop."""
    vids = np.arange(start, stop, dtype=np.int64)
    oracle = Oracle(vids, texts_for(vids))
    index = LexicalIndex.open(folder, state)
    assert len(index) == state.passages == len(vids)
    for k in (3, 1000):
        found = index.search(QUERIES, k)
        for row, text in enumerate(QUERIES):
            assert_is_best(oracle, text, k, found.ids[row], found.scores[row])


def listing(folder):
    return {
        str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns, p.stat().st_ino)
        for p in folder.rglob("*")
    }


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "lex"


def test_a_state_says_what_it_covers_and_survives_json(folder):
    state = build(folder, None, (5, 40))
    assert (state.first_vid, state.last_vid, state.passages) == (5, 39, 35)
    assert state.is_current()
    text = json.dumps(state.to_json())
    assert LexicalState.from_json(text) == LexicalState.from_json(json.loads(text)) == state
    assert {p.name for p in folder.iterdir()} == set(state.files)
    for name, digest in state.files.items():
        assert fs.sha256_of(folder / name) == digest


def test_commits_extend_the_index_and_merges_change_no_answer(folder):
    steps = [(1 + 10 * i, 11 + 10 * i) for i in range(25)]
    state = build(folder, None, *steps)
    assert len({name.split(".")[0] for name in state.files}) < 25  # some were merged
    assert_holds(folder, state, 1, 251)


def test_a_writer_goes_on_where_the_state_stands(folder):
    state: LexicalState | None = None
    for start in range(1, 101, 10):
        with LexicalWriter(folder, state) as writer:
            assert writer.covered == (state.last_vid if state else -1)
            add(writer, start, start + 10)
            assert writer.covered == start + 9
            state = writer.commit()
            writer.collect_garbage([state])
        assert {p.name for p in folder.iterdir()} == set(state.files)
    assert state is not None
    assert (state.first_vid, state.last_vid, state.passages) == (1, 100, 100)
    assert_holds(folder, state, 1, 101)


def test_a_commit_may_cover_vids_without_passages(folder):
    with LexicalWriter(folder) as writer:
        add(writer, 1, 5)
        assert writer.commit(9).last_vid == 9
        with pytest.raises(UsageError, match="passages up to 9 were added, not up to 8"):
            writer.commit(8)
        add(writer, 10, 12)
        assert writer.commit().last_vid == 11


def test_a_commit_of_nothing_is_an_empty_index(folder):
    with LexicalWriter(folder) as writer:
        state = writer.commit()
        assert writer.commit() == state
    assert (state.first_vid, state.last_vid, state.passages, dict(state.files)) == (-1, -1, 0, {})
    assert LexicalIndex.open(folder, state).search(["w1"], 2).ids.tolist() == [[-1, -1]]
    assert LexicalState.from_json(state.to_json()) == state
    with LexicalWriter(folder, state) as writer:
        add(writer, 1, 3)
        assert_holds(folder, writer.commit(), 1, 3)


@pytest.mark.parametrize(
    ("vids", "texts", "message"),
    [
        ([3], ["a"], "vids must ascend, and start above 4"),
        ([4], ["a"], "vids must ascend, and start above 4"),
        ([6, 6], ["a", "b"], "vids must ascend, and start above 4"),
        ([7, 6], ["a", "b"], "vids must ascend, and start above 4"),
        ([5], ["a", "b"], "do not fit 2 texts"),
    ],
)
def test_vids_that_do_not_ascend_are_refused_whole(folder, vids, texts, message):
    with LexicalWriter(folder) as writer:
        add(writer, 1, 5)
        with pytest.raises(UsageError, match=message):
            writer.add(np.array(vids), texts)
        add(writer, 5, 7)
        assert_holds(folder, writer.commit(), 1, 7)


def test_negative_vids_and_small_heaps_are_refused(folder):
    with LexicalWriter(folder) as writer, pytest.raises(UsageError, match="must ascend"):
        writer.add(np.array([-1]), ["a"])
    with pytest.raises(UsageError, match="each thread of the lexical writer needs"):
        LexicalWriter(folder, heap_bytes=1000)


def test_very_long_texts_are_flushed_and_all_found(folder, monkeypatch):
    monkeypatch.setattr("semsearch.lexical.writer._MOST_PENDING", 200)
    assert_holds(folder, build(folder, None, (1, 200), (200, 300)), 1, 300)


# Crashes. The catalog's record is the commit; whatever the folder holds beyond it does not count.


def test_a_crash_at_any_step_leaves_the_recorded_state_whole(folder, tmp_path, monkeypatch):
    recorded = build(folder, None, (1, 60), (60, 90))
    crashed: list[Path] = []

    def snapshot(step):
        copy = tmp_path / f"crash-{len(crashed)}-{step}"
        # tantivy may be renaming its temporary files just now.
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".tmp*"))
        crashed.append(copy)

    with LexicalWriter(folder, recorded) as writer:
        add(writer, 90, 120)
        snapshot("added")
        monkeypatch.setattr(fs, "hook", snapshot)
        unrecorded = writer.commit()
        monkeypatch.setattr(fs, "hook", None)
        snapshot("committed")
        add(writer, 120, 125)
        snapshot("added-more")
    assert len(crashed) > 10
    for copy in crashed:
        assert_holds(copy, recorded, 1, 90)
        with LexicalWriter(copy, recorded) as writer:
            assert writer.covered == 89
            add(writer, 90, 100)
            state = writer.commit()
            writer.collect_garbage([state])
        assert {p.name for p in copy.iterdir()} == set(state.files)
        assert_holds(copy, state, 1, 100)
    assert_holds(folder, unrecorded, 1, 120)


def test_a_failure_at_any_step_is_one_error_and_loses_nothing(folder, monkeypatch):
    recorded = build(folder, None, (1, 60))
    failures = 0
    for number in range(1000):
        calls: list[str] = []

        def fail(step, calls=calls, number=number):
            calls.append(step)
            if len(calls) == number + 1:
                raise OSError(28, "No space left on device")

        with LexicalWriter(folder, recorded) as writer:
            add(writer, 60, 80)
            monkeypatch.setattr(fs, "hook", fail)
            try:
                writer.commit()
            except StorageError as exc:
                assert "the disk is full" in str(exc)  # noqa: PT017
                failures += 1
                with pytest.raises(StorageError, match="closed: open it again"):
                    add(writer, 80, 81)
            else:
                break
            finally:
                monkeypatch.setattr(fs, "hook", None)
        assert_holds(folder, recorded, 1, 60)
    assert failures > 5


def test_files_are_on_disk_before_the_state_is_handed_out(folder, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    if not Path("/proc/self/fd").exists():
        pytest.skip("THIS SYSTEM HAS NO /proc: cannot see which files are flushed")
    state = build(folder, None, (1, 20))
    inside = {Path(path).name for path in synced if Path(path).parent == folder.resolve()}
    assert inside == set(state.files)
    assert synced[-1] == str(folder.resolve())


def test_a_killed_writer_leaves_the_recorded_state_whole(folder):
    recorded = build(folder, None, (1, 50))
    code = (
        "import os, signal, sys; from pathlib import Path; import numpy as np\n"
        "from semsearch.lexical.state import LexicalState\n"
        "from semsearch.lexical.writer import LexicalWriter\n"
        "state = LexicalState.from_json(sys.stdin.read())\n"
        f"writer = LexicalWriter(Path({str(folder)!r}), state)\n"
        "writer.add(np.arange(50, 90), ['w1 w2'] * 40); writer.commit()\n"
        "writer.add(np.arange(90, 95), ['w1 w2'] * 5); os.kill(os.getpid(), signal.SIGKILL)"
    )
    text = json.dumps(recorded.to_json())
    done = subprocess.run([sys.executable, "-c", code], input=text, text=True, check=False)
    assert done.returncode == -9
    assert_holds(folder, recorded, 1, 50)
    assert_holds(folder, build(folder, recorded, (50, 70)), 1, 70)


# Damage.


def test_a_flipped_bit_anywhere_is_refused(folder, tmp_path):
    state = build(folder, None, (1, 200), (200, 260))
    rng = random.Random(3)
    for name in state.files:
        original = (folder / name).read_bytes()
        places = {0, len(original) - 1, *(rng.randrange(len(original)) for _ in range(6))}
        for place in places:
            damaged = bytearray(original)
            damaged[place] ^= 1 << rng.randrange(8)
            (folder / name).write_bytes(damaged)
            with pytest.raises(Corrupt, match=f"{name} is damaged: run `semsearch compact`"):
                LexicalIndex.open(folder, state)
        (folder / name).write_bytes(original)
    assert_holds(folder, state, 1, 260)


@pytest.mark.parametrize("damage", ["truncated", "emptied", "missing", "swapped", "a folder"])
def test_other_damage_is_refused_and_not_built_upon(folder, damage, caplog):
    state = build(folder, None, (1, 50), (50, 70))
    first, second = sorted(name for name in state.files if name.endswith(".idx"))
    path = folder / first
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[:-1])
    elif damage == "emptied":
        path.write_bytes(b"")
    elif damage == "swapped":
        path.write_bytes((folder / second).read_bytes())
    elif damage == "a folder":
        path.mkdir()
    with pytest.raises(Corrupt, match=first):
        LexicalIndex.open(folder, state)
    with LexicalWriter(folder, state) as writer:
        assert (writer.state, writer.covered) == (None, -1)
        assert first in caplog.text
        add(writer, 1, 80)
        state = writer.commit()
        writer.collect_garbage([state])
    assert_holds(folder, state, 1, 80)


@pytest.mark.parametrize(
    "change",
    [
        {"files": {"../../etc/passwd": "0" * 64}},
        {"files": {"a" * 32 + "/x": "0" * 64}},
        {"files": {}},
        {"files": []},
        {"files": {"a" * 32 + ".idx": 5}},
        {"meta": "{}"},
        {"meta": 5},
        {"meta": "not json"},
        {"meta": '{"segments": [5]}'},
        {"passages": "7"},
        {"last_vid": None},
        {"first_vid": 1.5},
        {"engine": 7},
        {"tokens_version": True},
        {"more": 1},
    ],
    ids=str,
)
def test_a_record_that_makes_no_sense_is_refused(folder, change):
    stored = build(folder, None, (1, 9)).to_json()
    with pytest.raises(Corrupt, match="the record of the lexical index cannot be read"):
        LexicalState.from_json(json.dumps({**stored, **change}))


@pytest.mark.parametrize("text", ["", "null", "[]", "5", '{"meta": ""}', "[" * 100_000])
def test_a_record_that_is_no_record_is_refused(text):
    with pytest.raises(Corrupt, match="the record of the lexical index cannot be read"):
        LexicalState.from_json(text)


def test_a_meta_that_tantivy_refuses_is_damage(folder):
    state = build(folder, None, (1, 9))
    broken = replace(state, meta=state.meta.replace('"text"', '"wrong"'))
    with pytest.raises(Corrupt, match="run `semsearch compact`"):
        LexicalIndex.open(folder, broken)
    with pytest.raises(Corrupt, match="holds 8 passages, not 7"):
        LexicalIndex.open(folder, replace(state, passages=7))


# Versions.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens_version": 0}, "made with version 0 of the word rules, this is version 1"),
        ({"engine": "tantivy 0.1, format 1"}, "was written by tantivy 0.1, format 1, this is"),
    ],
)
def test_another_version_is_refused_and_written_afresh(folder, change, message, caplog):
    state = replace(build(folder, None, (1, 30)), **change)
    assert not state.is_current()
    with pytest.raises(Mismatch, match=message):
        LexicalIndex.open(folder, state)
    with LexicalWriter(folder, state) as writer:
        assert writer.covered == -1
        assert message in caplog.text
        add(writer, 1, 20)
        assert_holds(folder, writer.commit(), 1, 20)


def test_a_state_counts_as_current_where_tantivy_is_missing(folder, monkeypatch):
    state = build(folder, None, (1, 3))
    monkeypatch.setitem(sys.modules, "tantivy", None)
    assert state.is_current()
    assert not replace(state, tokens_version=0).is_current()


# Readers.


def test_reading_writes_nothing_into_the_folder_and_leaves_nothing_behind(
    folder, tmp_path, monkeypatch
):
    state = build(folder, None, (1, 50))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = listing(folder)
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        index = LexicalIndex.open(folder, state)
        assert list(temporary.iterdir()) == []
        assert index.search(["w1"], 3).ids[0, 0] > 0
        assert_holds(folder, state, 1, 50)
    finally:
        folder.chmod(0o755)
    assert listing(folder) == before
    assert list(temporary.iterdir()) == []


def test_the_folder_may_be_named_through_a_link_or_from_here(folder, tmp_path, monkeypatch):
    state = build(folder, None, (1, 20))
    (tmp_path / "link").symlink_to(folder)
    assert_holds(tmp_path / "link", state, 1, 20)
    monkeypatch.chdir(tmp_path)
    assert_holds(Path("lex"), state, 1, 20)


def test_no_room_for_temporary_files_is_one_error(folder, tmp_path, monkeypatch):
    state = build(folder, None, (1, 9))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StorageError, match="cannot write"):
        LexicalIndex.open(folder, state)


def test_a_reader_keeps_its_state_while_a_writer_goes_on(folder):
    state = build(folder, None, (1, 100))
    index = LexicalIndex.open(folder, state)
    expected = index.search(QUERIES, 50)
    wrong: list[object] = []
    stop = threading.Event()

    def read():
        while not stop.is_set():
            found = index.search(QUERIES, 50)
            if not (
                np.array_equal(found.ids, expected.ids)
                and np.array_equal(found.scores, expected.scores)
            ):
                wrong.append(found)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with LexicalWriter(folder, state) as writer:
            for start in range(100, 250, 10):
                add(writer, start, start + 10)
                state = writer.commit()
                writer.collect_garbage([state])
    finally:
        stop.set()
        reader.join()
    assert wrong == []
    assert set(os.listdir(folder)) == set(state.files)
    assert_holds(folder, state, 1, 250)


def test_older_states_stay_readable_until_they_are_collected(folder):
    states = []
    with LexicalWriter(folder) as writer:
        for start in range(1, 201, 10):
            add(writer, start, start + 10)
            states.append(writer.commit())
        for number in range(0, 20, 4):
            assert_holds(folder, states[number], 1, 11 + 10 * number)
        removed = writer.collect_garbage([states[3], states[-1]])
        assert removed
        assert writer.collect_garbage([states[3], states[-1]]) == []
        assert_holds(folder, states[3], 1, 41)
        assert_holds(folder, states[-1], 1, 201)
        with pytest.raises(Corrupt):
            LexicalIndex.open(folder, states[6])
        add(writer, 201, 205)
        assert_holds(folder, writer.commit(), 1, 205)


def test_what_was_added_but_not_committed_is_dropped(folder):
    state = build(folder, None, (1, 20))
    with LexicalWriter(folder, state) as writer:
        add(writer, 20, 30)
    assert {p.name for p in folder.iterdir()} == set(state.files)
    assert_holds(folder, state, 1, 20)
    writer.close()
    with pytest.raises(StorageError, match="closed"):
        writer.commit()


def test_the_files_need_no_hard_links(folder, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    state = build(folder, None, (1, 20), (20, 40))
    assert_holds(folder, build(folder, state, (40, 50)), 1, 50)


# Remembered hashes.


def test_hashes_of_large_folders_are_remembered(folder, tmp_path, monkeypatch):
    state = build(folder, None, (1, 50))
    cache = tmp_path / "cache"
    hashed: list[str] = []
    real = fs.sha256_of

    def counted(path):
        hashed.append(path.name)
        return real(path)

    monkeypatch.setattr(fs, "sha256_of", counted)

    def opened():
        hashed.clear()
        LexicalIndex.open(folder, state, cache)
        return set(hashed)

    assert opened() == opened() == set(state.files)
    assert not cache.exists()  # a small folder is always hashed
    monkeypatch.setattr(files, "WORTH_REMEMBERING", 1)
    assert opened() == set(state.files)
    assert opened() == set()
    name = next(iter(state.files))
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(Corrupt, match=f"{name} is damaged"):
        opened()
    (folder / name).write_bytes(content)
    assert opened() == {name}
    (note,) = cache.iterdir()
    for junk in ("", "[]", "{", json.dumps({name: 5}), json.dumps({name: [1, 2]})):
        note.write_text(junk)
        assert name in opened()
    note.unlink()
    cache.rmdir()
    cache.write_text("a file where the folder should be")
    assert opened() == set(state.files)
