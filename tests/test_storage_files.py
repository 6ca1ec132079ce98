"""Every durable file operation: what is there afterwards, in what order it reached the disk, and
what is left when it fails."""

import builtins
import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

import pytest

from semsearch import fs
from semsearch.collection.beside import size_of
from semsearch.errors import Locked, StorageError


@pytest.fixture
def trace(monkeypatch):
    """What happens on the disk, in order: (what, names of files or folders ...)."""
    steps: list[tuple[str, ...]] = []
    real = {name: getattr(os, name) for name in ("fsync", "replace", "rename", "link")}

    def fsync(fd):
        steps.append(("fsync", shown(os.readlink(f"/proc/self/fd/{fd}"))))
        real["fsync"](fd)

    def renaming(name):
        def call(source, target, **options):
            steps.append((name, shown(source), shown(target)))
            real[name](source, target, **options)

        return call

    monkeypatch.setattr(os, "fsync", fsync)
    for name in ("replace", "rename", "link"):
        monkeypatch.setattr(os, name, renaming(name))
    return steps


def shown(path):
    name = Path(path).name
    return "temporary" if name.startswith(".tmp-") else name


def failing(monkeypatch, step, number=errno.EIO):
    """Make one named step fail; returns the steps that were taken."""
    seen = []

    def hook(name):
        seen.append(name)
        if name == step:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fs, "hook", hook)
    return seen


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    return place


def test_a_file_is_flushed_named_and_its_folder_flushed(folder, trace):
    fs.write_file(folder / "a", b"bytes")
    assert (folder / "a").read_bytes() == b"bytes"
    assert trace == [("fsync", "temporary"), ("replace", "temporary", "a"), ("fsync", "place")]
    assert names(folder) == ["a"]


def test_a_file_replaces_an_older_one_whole(folder):
    fs.write_file(folder / "a", b"a long older content")
    fs.write_file(folder / "a", b"new")
    assert (folder / "a").read_bytes() == b"new"


def test_bytes_written_before_can_be_replaced_and_writing_goes_on_at_the_end(folder):
    with fs.NewFile(folder) as new:
        new.write(b"0123456789")
        new.rewrite(2, b"ab")
        new.write(memoryview(b"xyz"))
        path = new.publish("a")
    assert path == folder / "a"
    assert path.read_bytes() == b"01ab456789xyz"


def test_two_files_are_in_the_making_at_once(folder):
    with fs.NewFile(folder) as one, fs.NewFile(folder) as other:
        assert len(names(folder)) == 2
        assert all(name.startswith(f".tmp-{os.getpid()}-") for name in names(folder))
        one.write(b"1")
        other.write(b"2")
        one.publish("one")
        other.publish("other")
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == [b"1", b"2"]


def test_a_file_that_was_not_published_is_gone(folder):
    with fs.NewFile(folder) as new:
        new.write(b"1")
        assert len(names(folder)) == 1
    assert names(folder) == []


def test_a_new_file_never_takes_a_name_that_is_there(folder, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda _: "same")
    with fs.NewFile(folder), pytest.raises(StorageError, match="exist"):
        fs.NewFile(folder)


@pytest.mark.parametrize(
    ("step", "left"), [("write", []), ("fsync", []), ("rename", []), ("sync-folder", ["a"])]
)
def test_each_step_of_a_file_can_fail(folder, monkeypatch, step, left):
    seen = failing(monkeypatch, step)
    with pytest.raises(StorageError, match="input/output error"):
        fs.write_file(folder / "a", b"1")
    assert seen[-1] == step
    assert names(folder) == left


class Unclosable:
    """A file whose last bytes fail to be written when it is closed, as on a network's disk."""

    def __init__(self, file):
        self.file = file
        self.flush, self.fileno = file.flush, file.fileno

    def close(self):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_file_is_closed_before_it_gets_its_name(folder):
    with fs.NewFile(folder) as new:
        new.write(b"1")
        real = new._file
        new._file = cast("IO[bytes]", Unclosable(real))
        with pytest.raises(StorageError, match="input/output error"):
            new.publish("a")
    real.close()
    assert names(folder) == []


def test_rewriting_can_fail(folder, monkeypatch):
    with fs.NewFile(folder) as new:
        failing(monkeypatch, "write", errno.ENOSPC)
        with pytest.raises(StorageError, match="disk is full: free some space"):
            new.rewrite(0, b"1")


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "no permission"),
        (errno.EPERM, "no permission"),
        (errno.EIO, "input/output error"),
        (errno.EMFILE, "too many open files"),
        (errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG)),
    ],
)
def test_what_the_system_says_becomes_advice(number, said):
    with pytest.raises(StorageError) as caught, fs.storage_errors(Path("/some/where")):
        raise OSError(number, "?")
    assert str(caught.value).startswith("/some/where: cannot write: ")
    assert said in str(caught.value)


def test_what_cannot_be_read_is_named():
    for exc, said in (
        (OSError(errno.ENOMEM, "?"), "^/x: cannot read: not enough memory"),
        (OSError(errno.ENOENT, "?", "/own"), "^/own: cannot read: No such file or directory"),
    ):
        with pytest.raises(StorageError, match=said), fs.read_errors(Path("/x")):
            raise exc
    with pytest.raises(StorageError, match="^/x: cannot read: odd$"), fs.read_errors(Path("/x")):
        raise OSError("odd")


def test_only_plain_files_are_opened(folder):
    (folder / "a").write_bytes(b"abc")
    with fs.open_plain(folder / "a") as file:
        assert file.read() == b"abc"
    os.mkfifo(folder / "pipe")
    open_files = len(os.listdir("/proc/self/fd"))
    for path in (folder / "pipe", folder, Path("/dev/null")):
        with pytest.raises(OSError, match="not a file") as caught:
            fs.open_plain(path)
        assert caught.value.filename == str(path)
    with pytest.raises(FileNotFoundError):
        fs.open_plain(folder / "b")
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_an_error_without_a_number_says_what_it_says():
    with pytest.raises(StorageError, match="/x: cannot write: odd"), fs.storage_errors(Path("/x")):
        raise OSError("odd")


def test_other_errors_are_not_of_the_disk():
    with pytest.raises(ValueError, match="^odd$"), fs.storage_errors(Path("/x")):
        raise ValueError("odd")


def test_the_cache_is_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("SEMSEARCH_CACHE", "/own")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert fs.cache_folder() == Path("/own")
    monkeypatch.delenv("SEMSEARCH_CACHE")
    assert fs.cache_folder() == Path("/xdg/semsearch")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/their/home")
    assert fs.cache_folder() == Path("/their/home/.cache/semsearch")


def test_any_path_can_be_printed():
    assert fs.printable(Path("/a/\xe9")) == "/a/\xe9"
    odd = Path(os.fsdecode(b"/a/\xff"))
    assert fs.printable(odd) == r"/a/\udcff"


def test_new_folders_are_flushed_from_the_top(folder, trace):
    fs.make_folder(folder / "a" / "b")
    assert (folder / "a" / "b").is_dir()
    assert trace == [("fsync", "place"), ("fsync", "a")]
    fs.make_folder(folder / "a" / "b")  # there already
    assert len(trace) == 2


def test_a_folder_that_somebody_makes_meanwhile_is_no_error(folder, monkeypatch):
    real = Path.is_dir
    wanted = folder / "a"

    def is_dir(path):
        before = real(path)
        if path == wanted and not before:
            wanted.mkdir()
        return before

    monkeypatch.setattr(Path, "is_dir", is_dir)
    fs.make_folder(wanted)
    assert real(wanted)


def test_a_folder_cannot_be_where_a_file_is(folder):
    (folder / "a").write_bytes(b"1")
    with pytest.raises(StorageError, match="cannot write"):
        fs.make_folder(folder / "a" / "b")


def test_a_file_of_others_is_flushed(folder, trace, monkeypatch):
    (folder / "a").write_bytes(b"1")
    fs.sync_file(folder / "a")
    assert trace == [("fsync", "a")]
    open_files = len(os.listdir("/proc/self/fd"))
    seen = failing(monkeypatch, "sync-file")
    with pytest.raises(StorageError, match="a: cannot write"):
        fs.sync_file(folder / "a")
    assert seen == ["sync-file"]
    monkeypatch.setattr(fs, "hook", None)
    monkeypatch.setattr(os, "fsync", lambda fd: os.read(fd, -1))
    with pytest.raises(StorageError):
        fs.sync_file(folder / "a")
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_a_temporary_folder_is_gone_with_all_that_is_in_it(folder):
    with fs.temporary_folder(folder) as place:
        assert place.parent == folder
        assert place.name.startswith(f".tmp-{os.getpid()}-")
        assert names(place) == []
        (place / "below").mkdir()
        (place / "below" / "a").write_bytes(b"1")
    assert names(folder) == []
    with pytest.raises(KeyError), fs.temporary_folder(folder):
        raise KeyError
    assert names(folder) == []
    with pytest.raises(StorageError, match="elsewhere"), fs.temporary_folder(folder / "elsewhere"):
        pass


def test_a_new_folder_gets_its_name_at_the_end(folder, trace):
    with fs.new_folder(folder / "new") as place:
        (place / "a").write_bytes(b"1")
        assert not (folder / "new").exists()
    assert names(folder) == ["new"]
    assert names(folder / "new") == ["a"]
    assert trace == [("rename", "temporary", "new"), ("fsync", "place")]


def test_a_new_folder_makes_the_folders_above_it(folder):
    with fs.new_folder(folder / "a" / "new"):
        pass
    assert names(folder / "a") == ["new"]


@pytest.mark.parametrize("step", ["rename", "sync-folder"])
def test_a_new_folder_that_cannot_be_named_is_gone(folder, monkeypatch, step):
    seen = failing(monkeypatch, step)
    with pytest.raises(StorageError, match="input/output"), fs.new_folder(folder / "new"):
        pass
    assert seen == ["rename"] if step == "rename" else ["rename", "sync-folder"]
    assert names(folder) == ([] if step == "rename" else ["new"])


def test_a_new_folder_takes_no_place_that_is_taken(folder):
    (folder / "new").mkdir()
    (folder / "new" / "a").write_bytes(b"1")
    with pytest.raises(StorageError, match="new: cannot write"), fs.new_folder(folder / "new"):
        pass
    assert names(folder / "new") == ["a"]
    assert names(folder) == ["new"]


def test_a_link_is_a_second_name(folder, monkeypatch):
    (folder / "a").write_bytes(b"1")
    seen = failing(monkeypatch, "")
    fs.link(folder / "a", folder / "b")
    assert seen == ["link"]
    assert (folder / "a").samefile(folder / "b")
    (folder / "c").write_bytes(b"2")
    fs.link(folder / "a", folder / "c")  # it stays as it is
    assert (folder / "c").read_bytes() == b"2"
    assert names(folder) == ["a", "b", "c"]


def test_without_links_a_durable_copy_is_made(folder, monkeypatch, trace):
    raw = os.urandom(2 * (1 << 20) + 7)
    (folder / "a").write_bytes(raw)
    (folder / "to").mkdir()

    def refused(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    fs.link(folder / "a", folder / "to" / "b")
    assert (folder / "to" / "b").read_bytes() == raw
    assert not (folder / "a").samefile(folder / "to" / "b")
    assert trace == [("fsync", "temporary"), ("replace", "temporary", "b"), ("fsync", "to")]


def test_a_link_to_nothing_is_an_error(folder):
    with pytest.raises(StorageError, match="b: cannot write: No such file"):
        fs.link(folder / "a", folder / "b")
    assert names(folder) == []


@pytest.mark.parametrize(
    ("call", "how", "source"),
    [(fs.rename_file, "replace", "file"), (fs.rename_folder, "rename", "tree")],
)
def test_renaming_is_durable(folder, trace, monkeypatch, call, how, source):
    (folder / "file").write_bytes(b"1")
    (folder / "tree").mkdir()
    (folder / "to").mkdir()
    call(folder / source, folder / "to" / "b")
    assert trace == [(how, source, "b"), ("fsync", "to")]
    assert names(folder / "to") == ["b"]
    assert not (folder / source).exists()
    seen = failing(monkeypatch, "rename")
    with pytest.raises(StorageError, match="c: cannot write"):
        call(folder / "to" / "b", folder / "c")
    assert seen == ["rename"]
    assert names(folder / "to") == ["b"]


def test_a_folder_is_removed_name_first(folder, trace, monkeypatch):
    tree = folder / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(b"1")
    seen = failing(monkeypatch, "")
    fs.remove_folder(tree)
    assert names(folder) == []
    assert seen == ["rename", "sync-folder", "unlink"]
    assert trace == [("rename", "tree", "temporary"), ("fsync", "place")]
    tree.mkdir()
    failing(monkeypatch, "unlink")
    with pytest.raises(StorageError, match="tree: cannot write"):
        fs.remove_folder(tree)
    (left,) = names(folder)
    assert left.startswith(f".tmp-{os.getpid()}-")


def test_a_file_is_removed_whether_it_is_there_or_not(folder, monkeypatch):
    (folder / "a").write_bytes(b"1")
    seen = failing(monkeypatch, "")
    fs.remove(folder / "a")
    fs.remove(folder / "a")
    assert names(folder) == []
    assert seen == ["unlink", "unlink"]
    (folder / "b").mkdir()
    with pytest.raises(StorageError, match="b: cannot write"):
        fs.remove(folder / "b")


def test_the_hash_is_that_of_the_whole_file(folder):
    raw = os.urandom(300_000)
    (folder / "a").write_bytes(raw)
    assert fs.sha256_of(folder / "a") == hashlib.sha256(raw).hexdigest()


def test_the_lock_names_its_holder_and_is_free_afterwards(folder):
    lock = folder / "index" / "LOCK"
    with fs.exclusive_lock(lock):
        assert lock.read_text() == f"{os.getpid()}\n"
        assert lock.stat().st_mode & 0o777 == 0o644 & ~_umask()
        with pytest.raises(Locked) as caught, fs.exclusive_lock(lock):
            pass
        assert str(caught.value).startswith(f"{lock.parent}: another process (pid {os.getpid()})")
    with fs.exclusive_lock(lock):
        pass
    open_files = len(os.listdir("/proc/self/fd"))
    with pytest.raises(KeyError), fs.exclusive_lock(lock):
        raise KeyError
    assert len(os.listdir("/proc/self/fd")) == open_files
    with fs.exclusive_lock(lock):
        pass


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_lock_holds_one_number_alone_whatever_was_there(folder):
    (folder / "LOCK").write_text("123456789123456789\nand more\n")
    with fs.exclusive_lock(folder / "LOCK"):
        assert (folder / "LOCK").read_text() == f"{os.getpid()}\n"
    assert (folder / "LOCK").exists()  # a stale file is no lock


@pytest.mark.parametrize(("left", "said"), [(b"", "unknown"), (b"\xff7\n", "\ufffd7")])
def test_a_holder_that_left_no_number_is_unknown(folder, left, said):
    with fs.exclusive_lock(folder / "LOCK"):
        (folder / "LOCK").write_bytes(left)
        with pytest.raises(Locked, match=rf"\(pid {said}\)"), fs.exclusive_lock(folder / "LOCK"):
            pass


def test_a_full_disk_does_not_keep_a_writer_out(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with fs.exclusive_lock(folder / "LOCK"):
        assert (folder / "LOCK").exists()


def test_the_lock_of_a_folder_that_cannot_be_written_is_one_line(folder):
    (folder / "LOCK").mkdir()
    with (
        pytest.raises(StorageError, match="LOCK: cannot write"),
        fs.exclusive_lock(folder / "LOCK"),
    ):
        pass


def test_the_lock_of_a_killed_process_is_free(folder):
    code = (
        "import os, sys; from pathlib import Path; from semsearch import fs\n"
        "with fs.exclusive_lock(Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder / "LOCK")], check=False)
    assert done.returncode == -9
    assert (folder / "LOCK").read_text().strip().isdecimal()
    with fs.exclusive_lock(folder / "LOCK"):
        pass


def test_without_locks_nothing_is_written(folder, monkeypatch):
    real = builtins.__import__

    def windows(name, *rest, **options):
        if name == "fcntl":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", windows)
    with (
        pytest.raises(StorageError, match="Linux and macOS only"),
        fs.exclusive_lock(folder / "index" / "LOCK"),
    ):
        pass
    assert names(folder) == []


def test_a_folder_that_cannot_be_listed_has_no_size(tmp_path, monkeypatch):
    def scandir(path):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "file").write_bytes(b"12345")
    assert size_of(tmp_path) == 5
    assert size_of(tmp_path / "nothing") == 0
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(StorageError, match="no permission"):
        size_of(tmp_path)
