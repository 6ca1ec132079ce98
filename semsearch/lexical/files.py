"""The files of a lexical folder: verified against a state, linked, listed.

Files are never changed once written, so a link is as good as a copy.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from semsearch import fs
from semsearch.errors import Corrupt, StorageError

WORTH_REMEMBERING = 64 << 20
"""Bytes of a whole folder from which hashes are remembered."""

META = "meta.json"
WORK = "work"
"""The folder inside in which tantivy works; a killed run leaves it."""

_PATIENCE = 200
"""Hundredths of a second."""


def verify(folder: Path, files: Mapping[str, str], cache: Path | None = None) -> None:
    """Compare every file with its SHA-256. Raises Corrupt naming the first that differs.

    With a ``cache`` folder, the hashes of files above 64 MiB in total are remembered there by
    path, size, modification time and inode; a cache that cannot be used costs time only.
    """
    try:
        marks = {name: _mark(folder / name) for name in files}
        if cache is None or sum(mark[1] for mark in marks.values()) < WORTH_REMEMBERING:
            digests = {name: fs.sha256_of(folder / name) for name in files}
        else:
            digests = _remembered(cache, folder, marks)
    except OSError as exc:
        raise _damaged(folder, Path(exc.filename or folder).name, "cannot be read") from exc
    for name, digest in files.items():
        if digests[name] != digest:
            raise _damaged(folder, name, "is damaged")


def _damaged(folder: Path, name: str, what: str) -> Corrupt:
    return Corrupt(f"{folder / name} {what}: run `semsearch compact` to build it anew")


Mark = tuple[str, int, int, int]


def _mark(path: Path) -> Mark:
    stat = path.stat()
    return (str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino)


def _remembered(cache: Path, folder: Path, marks: Mapping[str, Mark]) -> dict[str, str]:
    key = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    note = cache / f"lexical-{key[:24]}.json"
    known: Any = {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(note.read_text(encoding="utf-8"))
    entries = {}
    for name, mark in marks.items():
        old = known.get(name) if isinstance(known, dict) else None
        if isinstance(old, list) and old[:-1] == list(mark):
            entries[name] = old
        else:
            entries[name] = [*mark, fs.sha256_of(folder / name)]
    if entries != known:
        with contextlib.suppress(OSError, StorageError, ValueError):
            fs.write_file(note, json.dumps(entries).encode())
    return {name: str(entry[-1]) for name, entry in entries.items()}


def link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none. Raises OSError."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def clear(folder: Path) -> None:
    """Remove a folder of working files, if it is there. Raises StorageError."""
    with fs.storage_errors(folder):
        if folder.is_symlink():
            folder.unlink()
            return
        for attempt in range(_PATIENCE):
            try:
                shutil.rmtree(folder)
                return
            except OSError as exc:
                if not folder.exists():
                    return
                # A thread of tantivy's may just have put its lock file there, or taken it away.
                passing = exc.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT)
                if not passing or attempt == _PATIENCE - 1:
                    raise
                time.sleep(0.01)


def unlisted(folder: Path, keep: Iterable[str]) -> list[Path]:
    """Files of the folder, by name, that are not to be kept; folders are not looked into."""
    names = set(keep)
    with fs.storage_errors(folder):
        return sorted(p for p in folder.iterdir() if p.name not in names and not p.is_dir())
