"""Folders of derived files that appear whole or not at all, and are known to be undamaged.

A sealed folder is filled under another name, gets a manifest with the SHA-256 of each file, and is
renamed. It may be deleted at any time: what is in it is made again.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from semsearch.encoders.digests import file_digest
from semsearch.fs import make_folder, storage_errors, sync_file, sync_folder

_MANIFEST = "manifest.json"


def is_whole(folder: Path) -> bool:
    """Whether the folder is there and every file in its manifest is as it was written."""
    try:
        noted = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return all(file_digest(folder / name) == digest for name, digest in noted.items())
    except (OSError, ValueError, AttributeError):
        return False


def publish(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write files into a new folder, then seal it and give it its name.

    A damaged folder of that name is replaced; where another process was first, its folder stays.
    Raises StorageError.
    """
    make_folder(folder.parent)
    temporary = folder.parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
    with storage_errors(folder):
        temporary.mkdir()
    try:
        fill(temporary)
        with storage_errors(folder):
            names = sorted(file.name for file in temporary.iterdir())
            noted = {name: file_digest(temporary / name) for name in names}
            (temporary / _MANIFEST).write_text(json.dumps(noted), encoding="utf-8")
            for name in (*names, _MANIFEST):
                sync_file(temporary / name)
            if not is_whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                temporary.rename(folder)
            sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
