"""The index folder: one writer, exact snapshots, against a dictionary and NumPy."""

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from semsearch import fs
from semsearch.collection import layout, maintain, snapshot
from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader, StaleSnapshot
from semsearch.collection.writer import open_for_writing
from semsearch.errors import InputError, Locked, NotFound, SemsearchError, StorageError
from semsearch.index.exact import ExactIndex
from semsearch.store import documents, passages
from semsearch.store.filters import parse_filter
from semsearch.store.segments import Segment
from semsearch.types import Document
from tests.store_model import (
    DIM,
    TOKENS,
    assert_holds,
    assert_vectors,
    change_of,
    encoder_row,
    files_in,
    named_files,
    passages_of,
    put,
    small_sizes,
    spans_of,
    vector_of,
)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small_sizes(monkeypatch.setattr)


def document(number, text="some text", **metadata):
    return Document(f"d{number}", f"{text} {number}", f"T{number % 3}", metadata, "corpus")


def model_of(*many):
    return {d.id: d for d in many}


@contextmanager
def new_index(folder, *many, dims=DIM, matryoshka=()):
    with open_for_writing(Layout(folder)) as writer:
        writer.adopt_encoder(encoder_row(DIM, matryoshka), dims)
        if many:
            put(writer, many)
        yield writer


def assert_sound(folder):
    with Reader(folder) as reader:
        assert [str(finding) for finding in check_index(reader)] == []
        assert files_in(folder) == named_files(reader.snapshot())


# ---- a state machine against a dictionary

IDS = [f"d{number}" for number in range(9)]
TEXTS = [
    "one passage",
    "two passages are in here",
    "the same",
    "x",
    "Ein Text, der länger ist als 24",
]
KINDS = {"whole": (DIM, ()), "cut after rotation": (DIM // 2, ()), "matryoshka": (DIM // 2, (8, 4))}


REACHED: Counter[str] = Counter()


class Collection(RuleBasedStateMachine):
    """Every operation of the writer, in any order, with readers that hold older snapshots."""

    def __init__(self):
        super().__init__()
        self.stack = ExitStack()
        self.patch = pytest.MonkeyPatch()
        small_sizes(self.patch.setattr)
        self.patch.setattr(layout, "ROTATION_ROWS_PER_DIM", 1)
        self.patch.setattr(layout, "MERGE_COUNT", 2)
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # many small flushes
        self.folder = Path(tempfile.mkdtemp(prefix="semsearch-", dir=memory))
        self.model: dict[str, Document] = {}
        self.used: set[int] = set()
        self.gone: set[int] = set()
        self.held: list = []

    @initialize(kind=st.sampled_from(sorted(KINDS)), tokens=st.sampled_from([TOKENS, 0]))
    def create(self, kind, tokens):
        self.dims, self.matryoshka = KINDS[kind]
        self.open()
        self.writer.adopt_encoder(encoder_row(DIM, self.matryoshka), self.dims, tokens)
        self.generation = 0

    def open(self):
        self.door = open_for_writing(Layout(self.folder))
        self.writer = self.door.__enter__()

    def close(self):
        self.door.__exit__(None, None, None)

    def known(self, change):
        """The change with the vectors that are stored already, as an indexing run copies them."""
        hashes = [passage.text_hash for passage in change.passages]
        found = passages.vectors_known(self.writer.connection, hashes, 1)
        vids = np.array([found[h].vid for h in hashes if h in found], np.int64)
        known = [h for h in hashes if h in found]
        copies = dict(zip(known, self.writer.vectors_of(vids), strict=True))
        codes = dict(zip(known, self.writer.codes_of(vids), strict=True))
        for passage in change.passages:
            if passage.text_hash in copies:
                np.testing.assert_allclose(copies[passage.text_hash], passage.vector, atol=4e-3)
        return type(change)(
            change.document,
            tuple(
                replace(
                    p,
                    vector=copies.get(p.text_hash, p.vector),
                    codes=codes.get(p.text_hash, p.codes),
                )
                for p in change.passages
            ),
        )

    @rule(
        ids=st.lists(st.sampled_from(IDS), min_size=1, max_size=6, unique=True),
        text=st.sampled_from(TEXTS),
        year=st.integers(0, 3),
        copy=st.booleans(),
    )
    def upsert_some(self, ids, text, year, copy):
        self.upsert(ids, text, year, copy)

    def upsert(self, ids, text, year, copy):
        wanted = [Document(id, text, id if year else "", {"year": year}, "corpus") for id in ids]
        changes = [change_of(self.writer, d) for d in wanted]
        if copy and len(self.writer.snapshot.rows):
            changes = [self.known(change) for change in changes]
        self.generation += 1
        before = self.writer.snapshot
        assert self.writer.commit(changes) == self.generation
        if len(self.writer.snapshot.segments) > len(before.segments):
            REACHED["flush after rotation" if before.rotation_id else "flush"] += 1
        REACHED["update after rotation"] += before.rotation_id is not None and copy
        self.model.update(model_of(*wanted))

    @rule(text=st.sampled_from(TEXTS), half=st.integers(0, 1))
    def upsert_many(self, text, half):
        self.upsert(IDS[half::2], text, half, copy=False)

    @rule(ids=st.lists(st.sampled_from([*IDS, "unknown"]), max_size=3))
    def delete(self, ids):
        there = sorted(set(ids) & set(self.model))
        assert self.writer.delete(ids) == there
        self.generation += bool(there)
        for id in there:
            del self.model[id]

    @rule()
    def merge(self):
        before = self.writer.snapshot
        maintain.merge_segments(self.writer)
        after = self.writer.snapshot
        np.testing.assert_array_equal(after.rows.ids, before.rows.ids)
        everything = np.arange(len(before.rows))
        np.testing.assert_array_equal(after.rows.take(everything), before.rows.take(everything))
        assert (after.generation.gen > before.generation.gen) == (after.segments != before.segments)
        REACHED["merge"] += after.segments != before.segments
        self.generation = after.generation.gen

    @rule()
    def rotate(self):
        before = self.writer.snapshot
        maintain.fit_rotation_if_due(self.writer)
        snapshot = self.writer.snapshot
        due = before.generation.n_passage >= DIM and not self.matryoshka
        assert (snapshot.rotation_id is not None) == (due or before.rotation_id is not None)
        REACHED["rotation"] += snapshot.rotation_id != before.rotation_id
        if snapshot.rotation_id is not None:
            assert snapshot.rows.dim == (self.dims if len(snapshot.segments) else snapshot.rows.dim)
        self.generation = snapshot.generation.gen

    @rule()
    def compact(self):
        REACHED["compaction of dead rows"] += len(self.writer.snapshot.dead) > 0
        maintain.compact(self.writer)
        snapshot = self.writer.snapshot
        assert len(snapshot.dead) == 0
        assert len(snapshot.segments) == (1 if self.model else 0)
        assert len(snapshot.rows.recent[0]) == 0
        self.generation = snapshot.generation.gen

    @rule()
    def reopen(self):
        self.close()
        self.open()
        assert files_in(self.folder) == named_files(self.writer.snapshot)

    @precondition(lambda self: len(self.held) < 4)
    @rule()
    def hold(self):
        """A reader takes a snapshot and keeps it."""
        reader = self.stack.enter_context(Reader(self.folder))
        snapshot = reader.snapshot()
        everything = np.arange(len(snapshot.rows))
        self.held.append(
            (reader, snapshot, snapshot.rows.take(everything).copy(), dict(self.model))
        )

    @rule()
    def read_again(self):
        """Held snapshots answer as before; their readers see the newest when they ask for it."""
        for reader, held, vectors, model in self.held:
            assert_still_answers(reader, held, vectors, model)
            assert_holds(reader.snapshot(), reader, self.model)
        self.held.clear()

    @invariant()
    def the_index_is_the_model(self):
        if not hasattr(self, "generation"):
            return
        with Reader(self.folder) as reader:
            snapshot = reader.snapshot()
            assert snapshot.generation.gen == self.generation
            assert_holds(snapshot, reader, self.model)
            assert reader.live_by_id(IDS).keys() == self.model.keys()
            ids = set(snapshot.rows.ids.tolist())
            assert not ids & self.gone
            self.gone |= self.used - ids
            self.used |= ids
            assert [str(f) for f in check_index(reader) if not f.is_note] == []

    @precondition(lambda self: hasattr(self, "generation"))
    @rule(year=st.integers(0, 3))
    def filter(self, year):
        with Reader(self.folder) as reader:
            vids = reader.vids_matching(parse_filter([f"year>={year}"]))
            assert vids is not None
            snapshot = reader.snapshot()
            live = np.setdiff1d(vids, snapshot.dead)
            owners = {row.ext_id for row in reader.documents_of(live.tolist()).values()}
            assert owners == {i for i, d in self.model.items() if d.metadata["year"] >= year}
            np.testing.assert_array_equal(snapshot.rows.ids[snapshot.ordinals(vids)], vids)

    def teardown(self):
        self.stack.close()
        if hasattr(self, "door"):
            self.close()
            assert_sound(self.folder)
        self.patch.undo()
        shutil.rmtree(self.folder)


def assert_still_answers(reader, snapshot, vectors, model):
    rows = snapshot.rows
    np.testing.assert_array_equal(rows.take(np.arange(len(rows))), vectors)
    if not len(rows):
        return
    alive = np.ones(len(rows), np.bool_) if snapshot.alive is None else snapshot.alive
    query = vectors[:1]
    found = ExactIndex(rows).search(query, len(rows), snapshot.alive)
    scores = vectors[alive] @ query[0] / np.linalg.norm(vectors[alive], axis=1)
    best = np.sort(scores / np.linalg.norm(query))[::-1]
    np.testing.assert_allclose(found.scores[0, : len(best)], best, atol=1e-5)
    assert set(found.ids[0, : len(best)].tolist()) == set(rows.ids[alive].tolist())
    try:
        owners = reader.documents_of(rows.ids[alive].tolist())
    except StaleSnapshot:
        REACHED["stale snapshot"] += 1
        assert reader.snapshot().generation.gen > snapshot.generation.gen
    else:
        assert {row.ext_id: row.document for row in owners.values()} == model


def scripted(machine, kind):
    """Every operation at least once, each in a state where it has something to do."""
    machine.create(kind=kind, tokens=TOKENS)
    yield machine.upsert_many(text=TEXTS[1], half=0)
    yield machine.hold()
    yield machine.upsert_many(text=TEXTS[4], half=1)
    yield machine.merge()
    yield machine.rotate()
    yield machine.hold()
    yield machine.upsert_many(text=TEXTS[1], half=1)
    yield machine.upsert_some(ids=IDS[:2], text=TEXTS[4], year=2, copy=True)
    yield machine.filter(year=1)
    yield machine.delete(ids=["d3", "unknown"])
    yield machine.reopen()
    yield machine.compact()
    yield machine.read_again()
    yield machine.upsert_many(text=TEXTS[3], half=0)
    yield machine.delete(ids=IDS)
    yield machine.compact()
    yield machine.upsert_some(ids=["d1"], text=TEXTS[2], year=0, copy=False)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_one_order_of_operations_that_reaches_everything(kind):
    REACHED.clear()
    machine = Collection()
    try:
        for _ in scripted(machine, kind):
            machine.the_index_is_the_model()
    finally:
        machine.teardown()
    expected = {"merge", "compaction of dead rows", "stale snapshot"}
    if kind == "matryoshka":
        expected |= {"flush"}
    else:
        expected |= {"rotation", "flush after rotation", "update after rotation"}
    assert {name for name, count in REACHED.items() if count} >= expected


def test_any_order_of_operations_leaves_what_the_dictionary_holds():
    run_state_machine_as_test(
        Collection, settings=settings(max_examples=40, stateful_step_count=22)
    )


# ---- by examples


def test_updated_documents_get_new_passages_and_others_keep_theirs(tmp_path):
    with new_index(tmp_path, *(document(n) for n in range(4))) as writer:
        first = {vid: row.ext_id for vid, row in owners_of(writer).items()}
        put(writer, [document(1, "new words")])
        second = {vid: row.ext_id for vid, row in owners_of(writer).items()}
    assert {v: d for v, d in second.items() if d != "d1"} == {
        v: d for v, d in first.items() if d != "d1"
    }
    assert min(v for v, d in second.items() if d == "d1") > max(first)


def owners_of(writer):
    """The live passages of a writer's snapshot."""
    snapshot = writer.snapshot
    vids = np.setdiff1d(snapshot.rows.ids, snapshot.dead).tolist()
    with Reader(writer.layout.folder) as reader:
        return reader.documents_of(vids)


def test_a_snapshot_survives_commits_merges_and_compactions(tmp_path):
    old = [document(n, "the first text of all") for n in range(12)]
    with new_index(tmp_path, *old) as writer, Reader(tmp_path) as reader:
        snapshot = reader.snapshot()
        files = [tmp_path / "seg" / row.name for row in snapshot.segments]
        vectors = snapshot.rows.take(np.arange(len(snapshot.rows))).copy()
        for n in range(5):
            put(writer, [document(12 + 8 * n + m, "another text") for m in range(8)])
        assert_still_answers(reader, snapshot, vectors, model_of(*old))
        texts = [
            d.content[start:end] for d in old for start, end in spans_of(d.content)
        ]  # untouched pages are read only now
        assert_vectors(snapshot, texts)
        maintain.merge_segments(writer)
        assert_still_answers(reader, snapshot, vectors, model_of(*old))
        writer.delete(["d7"])
        maintain.compact(writer)
        assert not any(path.exists() for path in files)
        np.testing.assert_array_equal(snapshot.rows.take(np.arange(len(vectors))), vectors)
        with pytest.raises(StaleSnapshot):
            reader.documents_of(snapshot.rows.ids.tolist())
        newest = reader.snapshot()
        assert newest.generation == writer.snapshot.generation
        live = newest.rows.ids.tolist()
        assert len(reader.documents_of(live)) == len(live)


def test_the_same_snapshot_is_kept_while_nothing_is_committed(tmp_path):
    with new_index(tmp_path, document(1)) as writer, Reader(tmp_path) as reader:
        first = reader.snapshot()
        assert reader.snapshot() is first
        writer.delete(["none"])
        assert reader.snapshot() is first
        put(writer, [document(2)])
        assert reader.snapshot() is not first
        assert first.generation.n_document == 1


def test_rows_purged_between_two_reads_are_stale_not_a_crash(tmp_path, monkeypatch):
    with new_index(tmp_path, document(1), document(2)) as writer, Reader(tmp_path) as reader:
        vids = reader.snapshot().rows.ids.tolist()
        real = documents.documents_of

        def late(connection, doc_ids):
            monkeypatch.setattr(documents, "documents_of", real)
            writer.delete(["d1"])
            maintain.compact(writer)
            return real(connection, doc_ids)

        monkeypatch.setattr(documents, "documents_of", late)
        with pytest.raises(StaleSnapshot):
            reader.documents_of(vids)


def test_files_merged_away_between_the_catalog_and_the_disk_are_no_error(tmp_path, monkeypatch):
    with new_index(tmp_path, *(document(n) for n in range(6))) as writer:
        put(writer, [document(n) for n in range(6, 12)])
        before = writer.snapshot.generation
        with Reader(tmp_path) as reader:
            compacted: list[Path] = []

            def late(path, sha256):
                if not compacted:
                    compacted.append(path)
                    snapshot._OPEN.clear()
                    maintain.compact(writer)
                return Segment(path, sha256)

            snapshot._OPEN.clear()
            monkeypatch.setattr(snapshot, "Segment", late)
            found = reader.snapshot()
            assert not compacted[0].exists()
            assert found.generation.gen == before.gen + 1
            assert_holds(found, reader, model_of(*(document(n) for n in range(12))))


def test_ordinals_are_those_of_the_vids_that_are_there(tmp_path):
    with new_index(tmp_path, *(document(n) for n in range(6))) as writer:
        writer.delete(["d0", "d3"])
        maintain.compact(writer)
        snapshot = writer.snapshot
        ids = snapshot.rows.ids
        everything = np.arange(0, int(ids[-1]) + 5, dtype=np.int64)
        assert len(ids) < len(everything) - 2
        np.testing.assert_array_equal(snapshot.ordinals(everything), np.arange(len(ids)))
        np.testing.assert_array_equal(snapshot.ordinals(ids[2:4]), [2, 3])
        assert len(snapshot.ordinals(np.setdiff1d(everything, ids))) == 0


@pytest.mark.parametrize("dims", [DIM, 3])
def test_a_rotation_keeps_full_scores_and_moves_the_energy_to_the_front(
    tmp_path, monkeypatch, dims
):
    many = [document(n, "words of many kinds") for n in range(30)]
    monkeypatch.setattr(layout, "ROTATION_SAMPLE", 10_000)
    with new_index(tmp_path, *many, dims=dims) as writer:
        before = writer.snapshot
        assert before.rotation is None
        assert before.rows.dim == DIM  # cut only once the front holds the most
        maintain.fit_rotation_if_due(writer)
        after = writer.snapshot
        assert after.rotation is not None
        assert after.rows.dim == dims
        with Reader(tmp_path) as reader:
            assert_holds(reader.snapshot(), reader, model_of(*many))
        old = before.rows.take(np.arange(len(before.rows)))
        new = after.rows.take(np.arange(len(after.rows)))
        energy = (new**2).sum(axis=0)
        assert np.all(energy[1:] <= energy[:-1] * 1.02)
        assert energy[:3].sum() > (old**2).sum(axis=0)[:3].sum() * 1.2
        if dims == DIM:
            np.testing.assert_allclose(new @ new.T, old @ old.T, atol=4e-3)
        put(writer, [document(40, "later words")])
        assert writer.snapshot.rotation_id == after.rotation_id
    assert_sound(tmp_path)


def test_a_new_rotation_at_each_doubling_does_not_wear_the_vectors_out(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "ROTATION_SAMPLE", 10_000)
    many = [document(n) for n in range(320)]
    with new_index(tmp_path) as writer:
        there = 0
        for number in range(6):
            put(writer, many[there : 10 * 2**number])
            there = 10 * 2**number
            maintain.compact(writer)
            assert writer.snapshot.rotation_id == number + 1
            maintain.compact(writer)
            assert writer.snapshot.rotation_id == number + 1
        with Reader(tmp_path) as reader:
            assert_holds(reader.snapshot(), reader, model_of(*many))


def test_a_second_writer_is_refused_at_once_naming_the_first(tmp_path):
    with (
        new_index(tmp_path, document(1)),
        pytest.raises(Locked, match=rf"pid {os.getpid()}\b"),
        open_for_writing(Layout(tmp_path)),
    ):
        pass
    code = (
        "import sys; from pathlib import Path; from semsearch.collection.layout import Layout\n"
        "from semsearch.collection.writer import open_for_writing\n"
        "with open_for_writing(Layout(Path(sys.argv[1]))):\n"
        "    print('open', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with (
            pytest.raises(Locked, match=rf"pid {process.pid}\b"),
            open_for_writing(Layout(tmp_path)),
        ):
            pass
        with Reader(tmp_path) as reader:
            assert reader.snapshot().generation.n_document == 1
        process.kill()
    with open_for_writing(Layout(tmp_path)) as writer:  # nothing needs unlocking
        put(writer, [document(2)])
    assert_sound(tmp_path)


def test_a_reader_opens_and_reads_beside_an_open_writer(tmp_path):
    with new_index(tmp_path, document(1)) as writer:
        with Reader(tmp_path) as reader:
            assert_holds(reader.snapshot(), reader, model_of(document(1)))
        put(writer, [document(n) for n in range(2, 9)])
        with Reader(tmp_path) as reader:
            assert_holds(reader.snapshot(), reader, model_of(*(document(n) for n in range(1, 9))))


def read_until(done, folder, seen):
    """Every generation holds one text only: a mixture would show."""
    with Reader(folder) as reader:
        while not done.is_set():
            snapshot = reader.snapshot()
            alive = np.setdiff1d(snapshot.rows.ids, snapshot.dead)
            try:
                rows = reader.documents_of(alive.tolist())
                spans = passages_of(reader, alive.tolist())
            except StaleSnapshot:
                continue
            texts = {row.document.text.split()[1] for row in rows.values()}
            assert len(texts) == 1
            assert {row.ext_id for row in rows.values()} == {"d0", "d1", "d2"}
            if len(spans) == len(alive):
                vectors = snapshot.rows.take(snapshot.ordinals(alive)) @ undo(snapshot)
                for vid, vector in zip(alive.tolist(), vectors, strict=True):
                    text = rows[vid].document.content[slice(*spans[vid])]
                    assert vector @ vector_of(text) > 0.999
            seen.add(int(texts.pop()))


def undo(snapshot):
    return np.eye(DIM) if snapshot.rotation is None else snapshot.rotation.T


def test_readers_and_a_writer_at_the_same_time_see_whole_generations(tmp_path):
    done, seen = threading.Event(), set[int]()
    with (
        new_index(tmp_path, *(document(n, "text 0") for n in range(3))) as writer,
        ThreadPoolExecutor(3) as pool,
    ):
        reading = [pool.submit(read_until, done, tmp_path, seen) for _ in range(3)]
        try:
            for generation in range(1, 60):
                put(writer, [document(n, f"text {generation}") for n in range(3)])
                if generation % 7 == 0:
                    maintain.merge_segments(writer)
                if generation % 11 == 0:
                    maintain.compact(writer)
        finally:
            done.set()
        for future in reading:
            future.result()
    assert len(seen) > 3
    assert_sound(tmp_path)


def test_a_writer_that_opens_removes_what_no_generation_names(tmp_path):
    with new_index(tmp_path, *(document(n) for n in range(9))):
        pass
    kept = files_in(tmp_path)
    (tmp_path / "ann").mkdir()
    for name in ("seg/.tmp-99-abcd", "seg/s-0123.vec", "ann/a-0123.faiss", "ann/.tmp-1-x"):
        (tmp_path / name).write_bytes(b"x" * 100)
    (tmp_path / "seg" / "lost+found").mkdir()
    with open_for_writing(Layout(tmp_path)) as writer:
        assert files_in(tmp_path) == kept == named_files(writer.snapshot)
    assert (tmp_path / "seg" / "lost+found").is_dir()


def test_one_commit_changes_a_document_once(tmp_path):
    with new_index(tmp_path) as writer:
        changes = [change_of(writer, document(1, text)) for text in ("a", "b")]
        with pytest.raises(ValueError, match="two changes of one document"):
            writer.commit(changes)
        writer.commit(changes[1:])
    with Reader(tmp_path) as reader:
        assert_holds(reader.snapshot(), reader, model_of(document(1, "b")))


def test_documents_without_an_encoder_or_index_are_refused(tmp_path):
    with (
        open_for_writing(Layout(tmp_path)) as writer,
        pytest.raises(RuntimeError, match="adopt_encoder"),
    ):
        writer.commit([])
    with pytest.raises(NotFound):
        Reader(tmp_path / "none")


def test_a_bad_document_changes_nothing_and_stops_the_writer(tmp_path):
    with new_index(tmp_path, document(1)) as writer:
        change = change_of(writer, document(3))
        bad = type(change)(Document("d2", "\ud800"), change.passages)
        with pytest.raises(InputError, match="lone surrogate"):
            writer.commit([change, bad])
        with pytest.raises(StorageError, match="open the index for writing again"):
            writer.commit([change])
    with Reader(tmp_path) as reader:
        assert_holds(reader.snapshot(), reader, model_of(document(1)))
    assert_sound(tmp_path)


# ---- the disk says no

WORK = {
    "commit": lambda writer: put(writer, [document(50)]),
    "flush": lambda writer: put(writer, [document(n) for n in range(50, 60)]),
    "delete": lambda writer: writer.delete(["d1"]),
    "merge": maintain.merge_segments,
    "rotation": maintain.fit_rotation_if_due,
    "compact": maintain.compact,
}
FAULTS = {
    name: ["create", "write", "fsync", "rename", "sync-folder"]
    for name in ("flush", "merge", "rotation", "compact")
}


def failing(name, number, nth=1):
    seen = []

    def hook(step):
        if step == name:
            seen.append(step)
            if len(seen) == nth:
                raise OSError(number, os.strerror(number))

    return hook


@pytest.mark.parametrize(
    ("work", "step"), [(work, step) for work, steps in FAULTS.items() for step in steps]
)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_failing_file_step_is_one_line_and_loses_nothing(
    tmp_path, monkeypatch, work, step, number
):
    many = [document(n) for n in range(24)]
    with new_index(tmp_path) as writer:
        for start in range(0, 24, 3):
            put(writer, many[start : start + 3])
        generation = writer.snapshot.generation
        monkeypatch.setattr(fs, "hook", failing(step, number))
        with pytest.raises(StorageError) as caught:
            WORK[work](writer)
        assert "\n" not in str(caught.value)
        monkeypatch.setattr(fs, "hook", None)
        with pytest.raises(StorageError, match="again"):  # a failed fsync is not retried
            put(writer, [document(60)])
    with Reader(tmp_path) as reader:
        assert reader.snapshot().generation == generation
        assert_holds(reader.snapshot(), reader, model_of(*many))
    with open_for_writing(Layout(tmp_path)) as writer:
        WORK[work](writer)
        put(writer, [document(60)])
        assert "d60" in documents.live_by_id(writer.connection, ["d60"])
    assert_sound(tmp_path)


@pytest.mark.parametrize("work", sorted(WORK))
@pytest.mark.parametrize("step", ["commit", "unlink"])
def test_an_error_around_the_commit_is_all_or_nothing(tmp_path, monkeypatch, work, step):
    many = [document(n) for n in range(24)]
    with new_index(tmp_path) as writer:
        for start in range(0, 24, 3):
            put(writer, many[start : start + 3])
        before = writer.snapshot.generation
        monkeypatch.setattr(fs, "hook", failing(step, errno.EIO))
        try:
            WORK[work](writer)
        except (OSError, SemsearchError):
            pass
        else:
            assert step == "unlink"
        monkeypatch.setattr(fs, "hook", None)
    with Reader(tmp_path) as reader:
        after = reader.snapshot().generation
        assert (after == before) if step == "commit" else (after.gen == before.gen + 1)
        assert [str(f) for f in check_index(reader) if not f.is_note] == []
    with open_for_writing(Layout(tmp_path)):
        pass
    assert_sound(tmp_path)


def test_totals_never_start_from_an_old_snapshot(tmp_path, monkeypatch):
    """The commit succeeds, but its files cannot be opened: the next commit must not count on."""
    with new_index(tmp_path, document(1)) as writer:

        def no_file(path, sha256):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

        monkeypatch.setattr(snapshot, "Segment", no_file)
        with pytest.raises(StorageError, match="Too many open files"):
            put(writer, [document(n) for n in range(2, 12)])
        monkeypatch.undo()
        with pytest.raises(StorageError, match="again"):
            put(writer, [document(30)])
    with Reader(tmp_path) as reader:
        assert_holds(reader.snapshot(), reader, model_of(*(document(n) for n in range(1, 12))))


@contextmanager
def small_disk(folder, size):
    """A real file system of ``size`` bytes where this process may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_the_next_commit_works_when_there_is_space(tmp_path):
    """On a real full disk if one can be mounted; else SQLite's own limit on the file's size."""
    with small_disk(tmp_path / "disk", 400 * 1024) as is_real:
        folder = tmp_path / "disk" / "index"
        model = {}
        messages: list[str] = []
        with new_index(folder):
            pass
        number = 0
        for round in range(12):
            with open_for_writing(Layout(folder)) as writer:
                if not is_real:
                    pages = writer.connection.execute("PRAGMA page_count").fetchone()[0]
                    writer.connection.execute(f"PRAGMA max_page_count = {pages + 2 * (round % 3)}")
                try:
                    for _ in range(40):
                        many = [document(number + n, "words " * 30) for n in range(5)]
                        put(writer, many)
                        model.update(model_of(*many))
                        number += 5
                except StorageError as exc:
                    messages.append(str(exc))
                if not is_real:
                    writer.connection.execute("PRAGMA max_page_count = 1073741823")
            with Reader(folder) as reader:
                assert_holds(reader.snapshot(), reader, model)
                files = files_in(folder)
            assert not [name for name in files if ".tmp" in name]
            if is_real:
                subprocess.run(
                    ["mount", "-o", f"remount,size={(500 + 60 * round) * 1024}",
                     str(tmp_path / "disk")], check=True,
                )  # fmt: skip
        assert len(messages) >= 8
        assert all("disk is full" in message and "\n" not in message for message in messages)
        assert len(model) >= 20
        if is_real:
            subprocess.run(["mount", "-o", "remount,size=40m", str(tmp_path / "disk")], check=True)
        with open_for_writing(Layout(folder)) as writer:
            put(writer, [document(9999)])
        model.update(model_of(document(9999)))
        with Reader(folder) as reader:
            assert_holds(reader.snapshot(), reader, model)
        assert_sound(folder)


@contextmanager
def read_only(folder):
    """A folder that cannot be written: mounted so where that is possible, else by its permissions.

    Root ignores permissions, so what they would refuse is refused here in its place.
    """
    mounts = [["mount", "--bind", folder, folder], ["mount", "-o", "remount,ro,bind", folder]]
    try:
        for command in mounts:
            subprocess.run([str(part) for part in command], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        real = os.open

        def refuse(path, flags, *rest, **options):
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and str(path).startswith(str(folder)):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return real(path, flags, *rest, **options)

        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "open", refuse)
            yield
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        return
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_read_only_folder_is_read_and_a_writer_is_refused_in_one_line(tmp_path):
    folder = tmp_path / "index"
    many = [document(n) for n in range(12)]
    with new_index(folder, *many):
        pass
    with read_only(folder):
        with Reader(folder) as reader:
            assert_holds(reader.snapshot(), reader, model_of(*many))
            assert [str(finding) for finding in check_index(reader)] == []
        with (
            pytest.raises(StorageError, match=r"read-only|permission") as caught,
            open_for_writing(Layout(folder)),
        ):
            pass
        assert "\n" not in str(caught.value)
    with open_for_writing(Layout(folder)) as writer:
        put(writer, [document(20)])
    assert_sound(folder)


def test_a_busy_catalog_is_one_line_and_changes_nothing(tmp_path, monkeypatch):
    from semsearch.store import database

    monkeypatch.setattr(database, "_BUSY_SECONDS", 0.1)
    with new_index(tmp_path, document(1)) as writer:
        other = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM document").fetchone()
        with pytest.raises(StorageError, match="busy"):
            put(writer, [document(2)])
        other.close()
    with Reader(tmp_path) as reader:
        assert_holds(reader.snapshot(), reader, model_of(document(1)))


def test_what_is_committed_was_flushed_before(tmp_path, monkeypatch):
    """A power loss keeps only what was flushed: so bytes, then the name, then the commit."""
    trace: list[tuple[str, int]] = []
    real = os.fsync

    def fsync(fd):
        trace.append(("fsync", os.fstat(fd).st_ino))
        real(fd)

    with new_index(tmp_path, *(document(n) for n in range(9))) as writer:
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(fs, "hook", lambda step: trace.append((step, 0)))
        for work in ("flush", "rotation", "compact"):
            trace.clear()
            WORK[work](writer)
            (row,) = writer.snapshot.segments[-1:]
            path = tmp_path / "seg" / row.name
            order = [step for step in trace if step[0] in ("fsync", "rename", "commit") and step[1]]
            assert order == [("fsync", path.stat().st_ino), ("fsync", path.parent.stat().st_ino)]
            names = [step[0] for step in trace]
            assert names.index("rename") > trace.index(order[0])
            assert names.index("rename") < trace.index(order[1]) < names.index("commit")
            assert "unlink" not in names[: names.index("committed")]


def test_vectors_do_not_depend_on_the_order_of_commits(tmp_path):
    """Two ways to the same documents hold the same vectors for the same texts."""
    many = [document(n) for n in range(5)]
    for name, batches in (("a", [many]), ("b", [many[:2], many[2:]])):
        with new_index(tmp_path / name) as writer:
            for batch in batches:
                put(writer, batch)
    found = []
    for name in ("a", "b"):
        with Reader(tmp_path / name) as reader:
            rows = reader.snapshot().rows
            found.append(rows.take(np.arange(len(rows))))
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0].shape[1] == DIM
    np.testing.assert_allclose(found[0][0], vector_of(many[0].content[:12]), atol=1e-3)
