"""Every file operation that must survive a crash, and the folders that semsearch uses.

A file appears under its final name only when its bytes are on disk: write a temporary file, fsync
it, rename it, fsync the folder. ``point`` names each step; tests set ``hook`` to stop a process
there or to make the step fail.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import IO

from semsearch import locks
from semsearch.errors import Locked, StorageError

hook: Callable[[str], None] | None = None
"""Called with the name of each step when set (tests only)."""

_ADVICE = {
    errno.ENOSPC: "the disk is full: free some space and run again",
    errno.EDQUOT: "the disk quota is used up: free some space and run again",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EIO: "the disk reports an input/output error",
    errno.ELOOP: "it is a link to another file, which is not followed",
    errno.ENOMEM: "not enough memory",
    errno.EAGAIN: "not enough memory, or too many processes",
    errno.EMFILE: "too many open files: raise the limit (ulimit -n)",
}


def point(name: str) -> None:
    """Mark a step of a commit protocol."""
    if hook is not None:
        hook(name)


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` into a ``StorageError`` that names ``path`` and what to do."""
    try:
        yield
    except OSError as exc:
        raise StorageError(f"{path}: cannot write: {_advice(exc)}") from exc


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` into a ``StorageError`` that names the file, or ``path``."""
    try:
        yield
    except OSError as exc:
        raise StorageError(f"{exc.filename or path}: cannot read: {_advice(exc)}") from exc


def _advice(exc: OSError) -> str:
    return _ADVICE.get(exc.errno or 0, os.strerror(exc.errno) if exc.errno else str(exc))


def cache_folder() -> Path:
    """The user's cache: ``$SEMSEARCH_CACHE``, ``$XDG_CACHE_HOME/semsearch`` or ``~/.cache``."""
    if chosen := os.environ.get("SEMSEARCH_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "semsearch"


def printable(path: Path) -> str:
    """A path as text that UTF-8 can hold: bytes of a name that are not UTF-8 become escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def make_folder(path: Path) -> None:
    """Create ``path`` with its parents, durably. Raises StorageError."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with storage_errors(path):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to disk, so that renames in it survive a power loss.

    Raises StorageError.
    """
    with storage_errors(path):
        point("sync-folder")
        _flush(path)


def sync_file(path: Path) -> None:
    """Flush a file that somebody else wrote to disk. Raises StorageError."""
    with storage_errors(path):
        point("sync-file")
        _flush(path)


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class NewFile:
    """A file in the making: invisible until ``publish``; gone without a trace otherwise."""

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self.folder = folder
        self._temporary = folder / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
        with storage_errors(folder):
            point("create")
            self._file: IO[bytes] = open(self._temporary, "xb")  # noqa: SIM115

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # on a full disk, closing fails as the write did
            self._file.close()
        with suppress(OSError):  # it has its name; or is removed when a writer opens
            self._temporary.unlink()

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes. Raises StorageError."""
        with storage_errors(self.folder):
            point("write")
            self._file.write(data)

    def rewrite(self, offset: int, data: bytes) -> None:
        """Replace bytes written before, then return to the end. Raises StorageError."""
        with storage_errors(self.folder):
            point("write")
            self._file.seek(offset)
            self._file.write(data)
            self._file.seek(0, os.SEEK_END)

    def publish(self, name: str) -> Path:
        """fsync, rename to ``name`` and fsync the folder; only then does the file exist.

        Raises StorageError; a failed fsync is never retried.
        """
        target = self.folder / name
        with storage_errors(target):
            self._file.flush()
            point("fsync")
            os.fsync(self._file.fileno())
            self._file.close()
            point("rename")
            os.replace(self._temporary, target)
            sync_folder(self.folder)
        return target


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file durably and atomically. Raises StorageError."""
    with NewFile(path.parent) as new:
        new.write(data)
        new.publish(path.name)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield an empty folder in ``parent`` that is gone at the end of the block.

    Raises StorageError.
    """
    import shutil  # a query that starts cold does without

    temporary = parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
    with storage_errors(parent):
        temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that gets its name at the end of the block, or is gone without a trace.

    Raises StorageError, also where something that is not empty has that name.
    """
    make_folder(folder.parent)
    with temporary_folder(folder.parent) as temporary:
        yield temporary
        with storage_errors(folder):
            point("rename")
            os.rename(temporary, folder)
        sync_folder(folder.parent)


def link(source: Path, target: Path) -> None:
    """Give a file that never changes a second name, or a copy where the file system has no links.

    A ``target`` that is there stays as it is. The caller flushes the folder. Raises StorageError.
    """
    with storage_errors(target):
        point("link")
        try:
            os.link(source, target)
        except FileExistsError:
            return
        except OSError:
            with open_plain(source) as file, NewFile(target.parent) as new:
                while block := file.read(1 << 20):
                    new.write(block)
                new.publish(target.name)


def rename_file(source: Path, target: Path) -> None:
    """Give a file that is on disk already the name of another, durably. Raises StorageError."""
    with storage_errors(target):
        point("rename")
        os.replace(source, target)
    sync_folder(target.parent)


def rename_folder(source: Path, target: Path) -> None:
    """Give a folder another name, durably. Raises StorageError."""
    with storage_errors(target):
        point("rename")
        os.rename(source, target)
    sync_folder(target.parent)


def remove_folder(folder: Path) -> None:
    """Delete a folder with all that is in it. Its name goes first: nobody finds half of it.

    Raises StorageError.
    """
    import shutil  # a query that starts cold does without

    temporary = folder.parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
    rename_folder(folder, temporary)
    with storage_errors(folder):
        point("unlink")
        shutil.rmtree(temporary)


def remove(path: Path) -> None:
    """Delete a file that nothing refers to any more. Raises StorageError."""
    with storage_errors(path):
        point("unlink")
        path.unlink(missing_ok=True)


def open_plain(path: Path) -> BufferedReader:
    """Open a file of an index for reading. Raises OSError, also for a pipe or a device."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):  # reading it could go on for ever
        os.close(fd)
        raise OSError(errno.EINVAL, "not a file", str(path))
    return os.fdopen(fd, "rb")


def sha256_of(path: Path) -> str:
    """SHA-256 of a whole file, hexadecimal. Raises OSError."""
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold the writer's lock, or raise Locked at once naming the holder's process.

    It is free when this process ends, however it ends (``locks``). Raises StorageError.
    """
    try:
        locks.require()
    except ImportError as exc:  # Windows has no flock
        raise StorageError("semsearch writes its index on Linux and macOS only") from exc
    make_folder(path.parent)
    try:
        with storage_errors(path):
            held = locks.take(path)
    except locks.Taken as exc:
        raise Locked(
            f"{path.parent}: another process (pid {exc.holder}) is writing to this index: "
            "wait for it to finish, then run again"
        ) from exc
    try:
        yield
    finally:
        held.release()
