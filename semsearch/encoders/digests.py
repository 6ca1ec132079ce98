"""SHA-256 of large files, remembered by (path, size, modification time, inode)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

from semsearch.errors import StorageError
from semsearch.fs import cache_folder, sha256_of, write_file

_WORTH_IT = 2**20
"""Bytes from which remembering is cheaper than hashing again."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal; from the user's cache while the file is unchanged.

    A cache that cannot be read or written costs time, never an error. Raises OSError if ``path``
    cannot be read.
    """
    path = path.resolve()
    stat = path.stat()
    if stat.st_size < _WORTH_IT:
        return sha256_of(path)
    key = [str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino]
    note = cache_folder() / "digests" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_text(encoding="utf-8"))
        if known["file"] == key and len(known["sha256"]) == 64:
            return str(known["sha256"])
    digest = sha256_of(path)
    with contextlib.suppress(StorageError, OSError):
        write_file(note, json.dumps({"file": key, "sha256": digest}).encode())
    return digest
