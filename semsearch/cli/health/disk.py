"""The cache folder, and the room on the disks that are written to."""

from __future__ import annotations

import os
from pathlib import Path

from semsearch.cli.health.finding import Finding, Findings
from semsearch.collection.beside import size_of
from semsearch.fs import cache_folder
from semsearch.resources import MIN_FREE, free_bytes, min_free, nearest_there, size

TOPIC = "disk"


def look_at_disks(index: Path) -> Findings:
    """The cache, and the free space there and at the index."""
    cache = cache_folder()
    yield _cache(cache)
    yield _free(cache, "free at the cache")
    yield _free(index, "free at the index")


def _cache(folder: Path) -> Finding:
    place = nearest_there(folder)
    writable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    used = size(size_of(folder)) if folder.is_dir() else "nothing yet"
    if writable:
        return Finding(TOPIC, "cache", f"{folder}: {used}")
    return Finding(
        TOPIC, "cache", f"{folder}: cannot be written", "note",
        "models are converted at every start: name another folder with SEMSEARCH_CACHE",
    )  # fmt: skip


def _free(folder: Path, name: str) -> Finding:
    free, least = free_bytes(folder), min_free()
    if free is None:
        return Finding(TOPIC, name, "not known on this file system")
    if free >= least:
        return Finding(TOPIC, name, f"{size(free)}, and {size(least)} are left free")
    return Finding(
        TOPIC, name, f"{size(free)}, below the {size(least)} that are left free", "problem",
        f"nothing more is indexed: free some space, or lower {MIN_FREE}",
    )  # fmt: skip
