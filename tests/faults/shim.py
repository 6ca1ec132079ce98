"""The library that stands between a process and libc's file calls: built, loaded, its trace read.

``shim.c`` says what it sees. It is loaded into worker processes only (LD_PRELOAD), and does nothing
there before ``Shim.start``.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import functools
import os
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")
NAMES = (
    "", "mark", "create", "truncate", "write", "sync", "rename", "unlink", "link", "mkdir", "rmdir",
    "unknown", "fault",
)  # fmt: skip

OPENS, CREATES, WRITES, SYNCS, RENAMES, UNLINKS, LINKS = (1 << bit for bit in range(7))
MKDIRS, TRUNCATES, CLOSES, READS, MAPS, LISTS = (1 << bit for bit in range(7, 13))
SHORT = -1
"""Instead of an errno: half of the bytes are written, or read."""

_HEADER = struct.Struct("<6IQq")


@dataclass(frozen=True, slots=True)
class Operation:
    """One change below the root: paths are relative to it, ``""`` is the root itself.

    ``caller`` says which library asked for it: python, sqlite3, tantivy, or other.
    """

    name: str
    path: str
    second: str
    data: bytes
    inode: int
    offset: int
    caller: str


_CALLERS = {"p": "python", "s": "sqlite3", "t": "tantivy", "o": "other", "?": "other", "-": ""}


@functools.cache
def built() -> Path:
    """The library, compiled once a session. Raises RuntimeError with what the compiler said."""
    folder = Path(tempfile.mkdtemp(prefix="semsearch-shim-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = folder / "shim.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(made), str(SOURCE), "-ldl", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the shim cannot be built: {done.stderr}")
    return made


def environment() -> dict[str, str]:
    """What a worker is started with: the shim, one thread for each library, disks to be filled."""
    settings = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "SEMSEARCH_MIN_FREE": "0"}
    return {**os.environ, **settings, "LD_PRELOAD": str(built()), "PYTHONPATH": ""}


def read_trace(path: Path, root: Path) -> list[Operation]:
    """All operations in their order."""
    raw = path.read_bytes()
    found, at, start = [], 0, len(str(root)) + 1
    while at < len(raw):
        number, caller, first, second, length, _, inode, offset = _HEADER.unpack_from(raw, at)
        at += _HEADER.size
        texts = []
        for size in (first, second):
            texts.append(os.fsdecode(raw[at : at + size]))
            at += size
        name = NAMES[number]
        if name != "mark":
            texts[0] = os.path.normpath(texts[0])[start:]
        if name in ("rename", "link"):
            texts[1] = os.path.normpath(texts[1])[start:]
        data = raw[at : at + length]
        at += length
        who = _CALLERS[chr(caller)]
        found.append(Operation(name, texts[0], texts[1], data, inode, offset, who))
    return found


def by_caller(operations: Sequence[Operation]) -> dict[str, int]:
    """How many changes each library asked for."""
    return dict(Counter(op.caller for op in operations if op.caller and op.name != "fault"))


class Shim:
    """The library inside a worker that was started with it."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.shim_described.restype = ctypes.c_char_p
        self._library.shim_fail.argtypes = (
            ctypes.c_uint, ctypes.c_long, ctypes.c_int, ctypes.c_int,
        )  # fmt: skip

    def start(self, root: Path, trace: Path | None = None) -> None:
        """Look at what happens below ``root`` from now on, and record it if a trace is named."""
        self._library.shim_start(os.fsencode(root), os.fsencode(trace or ""))

    def stop(self) -> None:
        """Look at nothing any more."""
        self._library.shim_stop()

    def mark(self, text: str) -> None:
        """Put a line into the trace."""
        self._library.shim_mark(text.encode())

    def fail(self, kinds: int, nth: int, error: int, *, lasting: bool) -> None:
        """Let the n-th call of these kinds fail; with 0 they are only counted."""
        self._library.shim_fail(kinds, nth, error, int(lasting))

    def be_kind(self) -> None:
        """Let nothing fail any more."""
        self._library.shim_fail(0, 0, 0, 0)

    @property
    def counts(self) -> list[int]:
        """Calls of each kind since ``fail``, whatever was asked for."""
        return [int(self._library.shim_count(bit)) for bit in range(13)]

    @property
    def seen(self) -> int:
        """Calls of the kinds asked for since ``fail``."""
        return int(self._library.shim_seen())

    @property
    def faults(self) -> int:
        """How many of them failed."""
        return int(self._library.shim_faults())

    @property
    def retried(self) -> int:
        """How often a file was synced again after that failed, with nothing written since."""
        return int(self._library.shim_retried())

    @property
    def described(self) -> str:
        """The first call that failed."""
        return os.fsdecode(self._library.shim_described())


def error_name(number: int) -> str:
    """ENOSPC, or "short"."""
    return "short" if number == SHORT else errno.errorcode[number]
