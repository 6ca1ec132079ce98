"""A second index beside the one that is served: of the same documents, by another model.

``INDEX/beside`` is an index folder like any other. It is filled while the other one is served, and
then takes its place in one commit (``swap``); what served before is then beside, to be put back.
While that happens ``INDEX/before-GENERATION`` keeps what served; a swap that was cut short is
finished, or cleared away, by the next writer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from semsearch import fs
from semsearch.errors import NotFound
from semsearch.store import catalog
from semsearch.store.database import database_errors, open_reader

if TYPE_CHECKING:
    import sqlite3

    from semsearch.collection.layout import Layout
    from semsearch.collection.snapshot import Snapshot

SERVED = "served"
"""The setting of an index that served before another took its place."""

FOLLOWED = "followed"
"""The setting beside that says which choices of the served index it follows already."""

_CHOICES = ("language", "long_text", "recall_target", "vector_index")
_TOKENS = "token_vectors"


@dataclass(frozen=True, slots=True)
class Beside:
    """What is beside an index; ``served`` says that it was served before, so it can be put back.

    ``bytes`` are those of all its files.
    """

    model: str
    fingerprint: str
    dims: int
    documents: int
    served: bool
    bytes: int


def beside_of(layout: Layout) -> Beside | None:
    """What is beside an index, None if nothing is. Raises Corrupt, Mismatch (format)."""
    path = layout.beside.catalog
    try:
        connection = open_reader(path)
    except NotFound:
        return None
    try:
        with database_errors(path):
            encoder = catalog.active_encoder(connection)
            if encoder is None:
                return None
            return Beside(
                encoder.name,
                encoder.fingerprint,
                int(catalog.get_meta(connection, "dims") or 0),
                catalog.generation(connection).n_document,
                catalog.get_meta(connection, SERVED) is not None,
                size_of(layout.beside.folder),
            )
    finally:
        connection.close()


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder and below; 0 without it.

    Those that a writer takes away meanwhile do not count.
    """

    def tell(exc: OSError) -> None:
        if not isinstance(exc, FileNotFoundError):
            raise exc

    total = 0
    with fs.read_errors(folder):
        for place, _, names in os.walk(folder, onerror=tell):
            for path in (Path(place) / name for name in names):
                with suppress(FileNotFoundError):
                    total += path.stat().st_size if path.is_file() else 0
    return total


def forget_beside(layout: Layout) -> None:
    """Delete what is beside an index. The caller holds its lock. Raises NotFound, StorageError."""
    if not layout.beside.folder.is_dir():
        raise NotFound(f"{layout.folder}: nothing is beside this index")
    fs.remove_folder(layout.beside.folder)


def choices_of(connection: sqlite3.Connection) -> dict[str, str]:
    """What was chosen for an index that one by another model has to follow, by setting."""
    found = {key: catalog.get_meta(connection, key) for key in _CHOICES}
    width = catalog.get_meta(connection, catalog.CODED_WIDTH)
    found[_TOKENS] = None if width is None else "no" if width == "0" else "yes"
    return {key: value for key, value in found.items() if value is not None}


def token_choice(choices: dict[str, str]) -> bool | None:
    """Of ``choices_of``: whether token vectors are kept; None if nothing was chosen."""
    return {"no": False, "yes": True}.get(choices.get(_TOKENS, ""))


def plain_choices(choices: dict[str, str]) -> dict[str, str]:
    """Of ``choices_of``: those that are settings as they stand."""
    return {key: value for key, value in choices.items() if key in _CHOICES}


def link_files(snapshot: Snapshot, target: Layout) -> None:
    """Give the files of a snapshot a name in another index folder of the same disk, durably.

    Derived files may be missing, and so may those of token vectors. Raises StorageError.
    """
    layout = snapshot.layout
    names: dict[Path, tuple[Path, list[str]]] = {
        layout.segments: (target.segments, [row.name for row in snapshot.segments]),
        layout.ann: (target.ann, []),
        layout.lexical: (target.lexical, sorted(lexical_names(snapshot))),
    }
    for row in snapshot.segments:
        if row.tok_name and (layout.segments / row.tok_name).is_file():
            names[layout.segments][1].append(row.tok_name)
    names[layout.ann][1].extend(row.name for row in snapshot.caches if row.kind == "faiss")
    for source, (place, wanted) in names.items():
        derived = source != layout.segments
        for name in wanted:
            if not derived or (source / name).is_file():
                fs.make_folder(place)
                fs.link(source / name, place / name)
        if place.is_dir():
            fs.sync_folder(place)


def lexical_names(snapshot: Snapshot) -> set[str]:
    """The names of the files of words that a generation refers to."""
    row = snapshot.cache("lexical")
    return {name for name in json.loads(row.files)["files"]} if row else set()


def settle(layout: Layout, snapshot: Snapshot) -> None:
    """Finish a swap that was committed, clear away what is left of one that was not.

    ``snapshot`` is the newest generation; the caller holds the lock. Raises StorageError.
    """
    with fs.read_errors(layout.folder):
        left = [path for path in sorted(layout.folder.glob(".tmp-*")) if path.is_dir()]
        kept = list(_kept(layout))
    for path in left:
        fs.remove_folder(path)
    for gen, path in kept:
        if gen > snapshot.generation.gen:
            fs.remove_folder(path)
            continue
        if layout.beside.folder.is_dir():
            fs.remove_folder(layout.beside.folder)
        fs.rename_folder(path, layout.beside.folder)
    _sweep_words(layout, snapshot)


def _kept(layout: Layout) -> Iterator[tuple[int, Path]]:
    for path in sorted(layout.folder.glob("before-*")):
        number = path.name.removeprefix("before-")
        if number.isdecimal() and path.is_dir():
            yield int(number), path


def _sweep_words(layout: Layout, snapshot: Snapshot) -> None:
    """Remove files of words that no commit names: of a killed run, or of the index beside."""
    if not layout.lexical.is_dir():
        return
    from semsearch.lexical import files  # a query that starts cold does without

    if (work := layout.lexical / files.WORK).is_dir():
        files.clear(work)
    for path in files.unlisted(layout.lexical, lexical_names(snapshot)):
        fs.remove(path)
