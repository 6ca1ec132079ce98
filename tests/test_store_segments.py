"""Vector files: read as written, and never read when a byte of them changed."""

import errno
import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semsearch import fs
from semsearch.errors import Corrupt, StorageError
from semsearch.store.blocks import BLOCK, HEADER
from semsearch.store.segments import Segment, write_segment

FINGERPRINT = "cd" * 32


def rows(n, dim, seed=0):
    """Ascending vids with gaps, and vectors of float16."""
    random = np.random.default_rng(seed)
    vids = np.cumsum(random.integers(1, 5, n)).astype(np.int64)
    return vids, random.standard_normal((n, dim)).astype(np.float16)


def written(folder, vids, vectors, step=None):
    step = step or max(1, len(vectors))
    blocks = (vectors[at : at + step] for at in range(0, len(vectors), step))
    file = write_segment(folder, vids, blocks, vectors.shape[1], FINGERPRINT)
    return folder / file.name, file


# Rows of 2 to 12,000 bytes: many in a block, some across two, one across several.
SHAPES = [
    (1, 1),
    (1, 6000),
    (7, 6000),
    (5, 2048),
    (700, 3),
    (600, 48),
    (2048, 1),
    (512, 4),
    (33, 384),
]


@pytest.mark.parametrize(("n", "dim"), SHAPES)
@pytest.mark.parametrize("step", [None, 1, 100])
def test_a_file_reads_back_what_was_written(tmp_path, n, dim, step):
    vids, vectors = rows(n, dim)
    path, file = written(tmp_path / "seg", vids, vectors, step)
    assert (file.n, file.first_vid, file.last_vid) == (n, vids[0], vids[-1])
    assert file.name == f"s-{file.sha256[:24]}.vec"
    segment = Segment(path, file.sha256)
    assert (segment.n, segment.dim) == (n, dim)
    np.testing.assert_array_equal(segment.vids, vids)
    assert segment.vids.dtype == np.int64
    np.testing.assert_array_equal(segment.vectors(0, n), vectors)
    assert segment.vectors(0, n).dtype == np.float16
    segment.verify()


@given(data=st.data(), shape=st.sampled_from(SHAPES))
def test_any_slice_and_any_rows_equal_numpy(tmp_path_factory, data, shape):
    n, dim = shape
    folder = tmp_path_factory.getbasetemp() / f"slices-{n}-{dim}"
    vids, vectors = rows(n, dim)
    path, file = written(folder, vids, vectors)
    segment = Segment(path, file.sha256)
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    np.testing.assert_array_equal(segment.vectors(start, stop), vectors[start:stop])
    wanted = data.draw(st.lists(st.integers(0, n - 1), max_size=12))
    ordinals = np.array(wanted, np.int64)
    np.testing.assert_array_equal(segment.take(ordinals), vectors[ordinals])


def test_the_layout_is_readable_by_numpy_alone(tmp_path):
    vids, vectors = rows(300, 20)
    path, _ = written(tmp_path, vids, vectors)
    raw = path.read_bytes()
    assert raw.startswith(b"SSEGv001")
    np.testing.assert_array_equal(np.frombuffer(raw, "<i8", 300, 4096), vids)
    found = np.frombuffer(raw, "<f2", 6000, 4096 + 2400).reshape(300, 20)
    np.testing.assert_array_equal(found, vectors)


def test_equal_vectors_make_equal_files_and_other_vectors_other_names(tmp_path):
    vids, vectors = rows(50, 8)
    first, _ = written(tmp_path / "a", vids, vectors)
    second, _ = written(tmp_path / "b", vids, vectors, step=7)
    assert (first.name, first.read_bytes()) == (second.name, second.read_bytes())
    changed = vectors.copy()
    changed[49, 7] += np.float16(1)
    assert written(tmp_path / "c", vids, changed)[0].name != first.name
    assert written(tmp_path / "d", vids + 1, vectors)[0].name != first.name


def test_a_view_outlives_the_file_and_the_segment(tmp_path):
    vids, vectors = rows(200, 16)
    path, file = written(tmp_path, vids, vectors)
    segment = Segment(path, file.sha256)
    view = segment.vectors(10, 190)
    path.unlink()
    np.testing.assert_array_equal(segment.take(np.array([5, 199])), vectors[[5, 199]])
    del segment
    np.testing.assert_array_equal(view, vectors[10:190])


def read_everything(path, sha256, vids, vectors):
    """Use a file in every way; each value that comes back must be the true one."""
    segment = Segment(path, sha256)
    failures = 0
    for start in range(0, segment.n, 40):
        stop = min(start + 40, segment.n)
        for read in (segment.vectors, lambda a, b: segment.take(np.arange(a, b))):
            try:
                np.testing.assert_array_equal(read(start, stop), vectors[start:stop])
            except Corrupt:
                failures += 1
    try:
        np.testing.assert_array_equal(segment.vids, vids)
    except Corrupt:
        failures += 1
    if not failures:
        segment.verify()
        pytest.fail("a damaged file was read without a word")
    with pytest.raises(Corrupt, match="damaged"):
        segment.verify()
    raise Corrupt(f"{path}: {failures} reads refused")


def flip_positions(size, vids_bytes):
    """Every byte of the header's text, the edges of each part and block, a sample of the rest."""
    body = size - HEADER
    edges = {HEADER, HEADER + vids_bytes, size - 1, size - 4, size - 5}
    edges |= {HEADER + at for at in range(0, body, BLOCK)}
    dense = set(range(0, 330)) | set(range(HEADER - 40, HEADER))
    near = {edge + step for edge in edges for step in (-2, -1, 0, 1)}
    spread = set(range(0, size, 61))
    return sorted(at for at in dense | near | spread if 0 <= at < size)


def test_every_flipped_byte_is_refused_and_no_wrong_value_is_read(tmp_path):
    vids, vectors = rows(600, 12, seed=4)
    path, file = written(tmp_path, vids, vectors)
    sound = path.read_bytes()
    positions = flip_positions(len(sound), 600 * 8)
    assert len(positions) > 700
    random = np.random.default_rng(9)
    for number, at in enumerate(positions):
        damaged = bytearray(sound)
        damaged[at] ^= 1 << int(random.integers(8))
        broken = tmp_path / f"broken-{number}"
        broken.write_bytes(damaged)
        with pytest.raises(Corrupt) as caught:
            read_everything(broken, file.sha256, vids, vectors)
        assert str(broken) in str(caught.value)
        assert "\n" not in str(caught.value)
        broken.unlink()


def test_a_flip_stops_only_what_touches_it(tmp_path):
    vids, vectors = rows(600, 12)
    path, file = written(tmp_path, vids, vectors)
    raw = bytearray(path.read_bytes())
    raw[HEADER + 600 * 8 + 599 * 24] ^= 4  # the last row
    path.write_bytes(raw)
    segment = Segment(path, file.sha256)
    np.testing.assert_array_equal(segment.vids, vids)
    np.testing.assert_array_equal(segment.vectors(0, 100), vectors[:100])
    np.testing.assert_array_equal(segment.take(np.array([7, 3])), vectors[[7, 3]])
    for touch in (
        lambda: segment.vectors(599, 600),
        lambda: segment.take(np.array([0, 599])),
        segment.verify,
    ):
        with pytest.raises(Corrupt, match="damaged"):
            touch()
    np.testing.assert_array_equal(segment.vectors(0, 100), vectors[:100])


def test_a_flip_in_the_first_row_does_not_stop_the_last(tmp_path):
    vids, vectors = rows(600, 12)
    path, file = written(tmp_path, vids, vectors)
    raw = bytearray(path.read_bytes())
    raw[HEADER + 600 * 8] ^= 4  # the first row
    path.write_bytes(raw)
    segment = Segment(path, file.sha256)
    np.testing.assert_array_equal(segment.vectors(500, 600), vectors[500:])
    np.testing.assert_array_equal(segment.take(np.array([599, 500])), vectors[[599, 500]])
    with pytest.raises(Corrupt, match="damaged"):
        segment.vectors(0, 1)


@pytest.mark.parametrize(("n", "dim"), [(900, 13), (40, 1500), (9, 6000)])
def test_every_block_of_a_row_is_checked_however_the_row_is_read(tmp_path, n, dim):
    vids, vectors = rows(n, dim)
    path, file = written(tmp_path, vids, vectors)
    sound = path.read_bytes()
    starts = n * 8 + np.arange(n) * dim * 2
    across = np.flatnonzero(starts // BLOCK != (starts + dim * 2 - 1) // BLOCK)
    assert len(across)
    for row in across[:: max(1, len(across) // 12)].tolist():
        for at in (starts[row], starts[row] + dim, starts[row] + dim * 2 - 1):
            raw = bytearray(sound)
            raw[HEADER + int(at)] ^= 1
            path.write_bytes(raw)
            for read in (
                lambda segment, row=row: segment.take(np.array([row])),
                lambda segment, row=row: segment.vectors(row, row + 1),
            ):
                segment = Segment(path, file.sha256)
                with pytest.raises(Corrupt):
                    read(segment)


@pytest.mark.parametrize("dim", [3, 12, 384])
def test_a_file_of_another_length_is_refused(tmp_path, dim):
    vids, vectors = rows(90, dim)
    path, file = written(tmp_path, vids, vectors)
    sound = path.read_bytes()
    lengths = {0, 1, 15, 16, HEADER - 1, HEADER, HEADER + 1, HEADER + 720, len(sound) - 1}
    lengths |= {len(sound) - 4, *range(0, len(sound), 997)}
    for length in sorted(lengths):
        broken = tmp_path / f"cut-{length}"
        broken.write_bytes(sound[:length])
        with pytest.raises(Corrupt, match=f"cut-{length}"):
            Segment(broken, file.sha256)
    for more in (b"\0", b"\0" * 4, sound[-4:]):
        longer = tmp_path / "longer"
        longer.write_bytes(sound + more)
        with pytest.raises(Corrupt, match="longer"):
            Segment(longer, file.sha256)


def test_another_sound_file_in_its_place_is_refused(tmp_path):
    vids, vectors = rows(40, 8)
    path, file = written(tmp_path, vids, vectors)
    other, _ = written(tmp_path, vids, vectors[::-1].copy())
    shutil.copy(other, path)
    with pytest.raises(Corrupt, match="damaged"):
        Segment(path, file.sha256)


def test_the_body_of_another_file_under_this_header_is_refused(tmp_path):
    vids, vectors = rows(700, 8)
    path, file = written(tmp_path, vids, vectors)
    other, _ = written(tmp_path, vids, vectors[::-1].copy())
    path.write_bytes(path.read_bytes()[:HEADER] + other.read_bytes()[HEADER:])
    with pytest.raises(Corrupt, match="damaged"):
        Segment(path, file.sha256)


def test_a_missing_file_is_told_apart_from_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        Segment(tmp_path / "s-none.vec", "0" * 64)


def test_vids_and_vectors_must_be_as_many(tmp_path):
    vids, vectors = rows(10, 4)
    with pytest.raises(ValueError, match="10 vids for 9 vectors"):
        written(tmp_path / "seg", vids, vectors[:9])
    assert list((tmp_path / "seg").iterdir()) == []


class Stopped(Exception):
    pass


STEPS = ["create", "write", "fsync", "rename"]


@pytest.fixture
def hooked(monkeypatch):
    def install(hook):
        monkeypatch.setattr(fs, "hook", hook)

    return install


@pytest.mark.parametrize("step", STEPS)
def test_nothing_is_published_when_the_work_stops_before_the_rename(tmp_path, hooked, step):
    vids, vectors = rows(2000, 16)
    seen = []

    def stop(name):
        seen.append(name)
        if name == step:
            raise Stopped

    hooked(stop)
    with pytest.raises(Stopped):
        written(tmp_path / "seg", vids, vectors)
    assert step in seen
    assert list((tmp_path / "seg").iterdir()) == []


@pytest.mark.parametrize("step", [*STEPS, "sync-folder"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EROFS])
def test_an_error_of_the_system_is_one_line_and_leaves_nothing(tmp_path, hooked, step, number):
    folder = tmp_path / "seg"
    folder.mkdir()

    def fail(name):
        if name == step:
            raise OSError(number, os.strerror(number))

    hooked(fail)
    with pytest.raises(StorageError) as caught:
        written(folder, *rows(2000, 16))
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    left = list(folder.iterdir())
    # After the rename the file is there, but nothing refers to it yet.
    assert [path.name[:2] for path in left] == (["s-"] if step == "sync-folder" else [])


def test_a_failing_write_of_buffered_bytes_leaves_nothing(tmp_path, monkeypatch):
    """A full disk may show only when the buffer is flushed, and again when the file is closed."""
    real = open

    def full(path, mode="r", *rest, **options):
        if "x" in mode:
            return real("/dev/full", "wb")
        return real(path, mode, *rest, **options)

    monkeypatch.setattr(fs, "open", full, raising=False)
    vids, vectors = rows(3, 4)
    with pytest.raises(StorageError, match="disk is full"):
        written(tmp_path, vids, vectors)


def inode(path):
    return os.stat(path).st_ino


@pytest.fixture
def flushed(monkeypatch):
    """What is flushed and renamed, in order: ("fsync", inode, size) and ("rename", inode)."""
    trace: list[tuple[object, ...]] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(fd):
        facts = os.fstat(fd)
        trace.append(("fsync", facts.st_ino, facts.st_size))
        real_fsync(fd)

    def replace(source, target):
        trace.append(("rename", inode(source), str(target)))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return trace


def test_bytes_are_on_disk_before_the_name_and_the_name_before_the_end(tmp_path, flushed):
    (tmp_path / "seg").mkdir()
    path, _ = written(tmp_path / "seg", *rows(500, 8))
    assert [step[:2] for step in flushed] == [
        ("fsync", inode(path)),
        ("rename", inode(path)),
        ("fsync", inode(path.parent)),
    ]
    assert flushed[0][2] == path.stat().st_size
    assert flushed[1][2] == str(path)


def test_every_new_folder_level_is_flushed(tmp_path, flushed):
    fs.make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    # The entry of each new folder is in the folder above it.
    above = [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert {step[1] for step in flushed} == {inode(folder) for folder in above}
