"""Whole copies of an index: taken while others write to it, and put back.

A backup is an index folder like any other: it can be searched, and copying it back is restoring it.
It appears whole, checked and durable, or not at all.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from semsearch import fs
from semsearch.collection.beside import size_of
from semsearch.collection.check import FILES_OF, check_index
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.replace import keep_and_replace
from semsearch.errors import Corrupt, InputError, StorageError
from semsearch.resources import require_space
from semsearch.store import catalog
from semsearch.store.database import copy_database, database_errors

_ATTEMPTS = 5
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Backup:
    """What a copy holds: the generation, its live documents, the bytes of all its files.

    ``kept`` is where a restored index keeps what was there before, None if nothing was.
    """

    generation: int
    documents: int
    bytes: int
    kept: Path | None = None


def back_up(folder: str | Path, target: str | Path) -> Backup:
    """Copy the newest generation of an index into the new folder ``target``, and check the copy.

    Others may read and write meanwhile; a writer waits for the copy of the catalog. What is beside
    the index is left out. Raises NotFound, Corrupt for a damaged index, InputError when ``target``
    is taken, StorageError; then there is no ``target``.
    """
    source, target = Path(folder), Path(target)
    with Reader(source) as reader, fs.read_errors(source):
        _require_free(target)
        with fs.new_folder(target) as place:
            return _copy_sound(reader, Layout(place))


def restore(backup: str | Path, target: str | Path, *, replace: bool = False) -> Backup:
    """Copy a backup to where an index is to be, and check the copy.

    ``replace`` lets it take the place of an index that is there, damaged or not, which is then kept
    (``Backup.kept``): one rename decides which of the two is found. Whoever has the old one open
    goes on reading that. Raises NotFound, Corrupt for a damaged backup, InputError when ``target``
    is taken, Locked, StorageError; then what was there is as it was.
    """
    source, target = Path(backup), Path(target)
    with Reader(source) as reader, fs.read_errors(source):
        if not (replace and _is_index(target)):
            _require_free(target)
            with fs.new_folder(target) as place:
                return _copy_sound(reader, Layout(place))
        with fs.exclusive_lock(Layout(target).lock), fs.temporary_folder(target) as place:
            copied = _copy_sound(reader, Layout(place))
            kept = keep_and_replace(Layout(target), Layout(place))
    return Backup(copied.generation, copied.documents, copied.bytes, kept)


def _is_index(folder: Path) -> bool:
    layout = Layout(folder)
    return layout.lock.exists() or layout.catalog.exists()


def _require_free(target: Path) -> None:
    if target.is_dir() and not any(target.iterdir()):
        return
    if target.exists() or target.is_symlink():
        hint = ": --replace keeps it and puts the backup in its place" if _is_index(target) else ""
        raise InputError(f"there is something already{hint or ': name a new folder'}", target)


def _copy_sound(reader: Reader, place: Layout) -> Backup:
    """Copy an index into an empty folder. Raises Corrupt unless the copy is sound."""
    require_space(place.folder, own_bytes(reader.layout), "a copy of the index")
    _copy_whole(reader, place)
    with Reader(place.folder) as copy:
        for finding in check_index(copy):
            if not finding.is_note:
                found = str(finding).replace(str(place.folder), str(reader.layout.folder))
                raise Corrupt(
                    f"{reader.layout.folder}: damaged, so not copied: {found}: `semsearch check"
                    f" -i {reader.layout.folder}` says more"
                )
        with copy.reading():
            newest = catalog.generation(copy.connection)
    fs.sync_folder(place.folder)
    return Backup(newest.gen, newest.n_document, own_bytes(place))


def own_bytes(layout: Layout) -> int:
    """Bytes of an index's own files: neither what is beside it nor what was kept."""
    catalog_bytes = layout.catalog.stat().st_size if layout.catalog.is_file() else 0
    return catalog_bytes + sum(map(size_of, layout.folders))


def _copy_whole(reader: Reader, place: Layout) -> None:
    """The catalog of one generation, then the files that it names, which never change.

    A file that is gone by the time it is opened was merged away: begin again with what is newest.
    The same one every time is lost, and of derived files the same one twice.
    """
    missing: Counter[str] = Counter()
    lost: set[Path] = set()
    while _ATTEMPTS not in missing.values():
        fs.remove(place.catalog)
        with reader.reading():
            copy_database(reader.connection, place.catalog).close()
        try:
            with _opened(reader.layout, place, lost) as files:
                for file, path in files:
                    _copy(file, path)
        except FileNotFoundError as exc:
            missing[exc.filename] += 1
            continue
        fs.sync_file(place.catalog)
        return
    name = missing.most_common(1)[0][0]
    raise Corrupt(
        f"{name}: a file of the index is missing: `semsearch check -i {reader.layout.folder}`"
    )


@contextmanager
def _opened(
    source: Layout, place: Layout, lost: set[Path]
) -> Iterator[list[tuple[IO[bytes], Path]]]:
    """The files that the catalog of ``place`` names, open in ``source``, with where they go.

    Once they are open they can be read, whoever removes their names. Derived files, and those of
    token vectors, may be missing if they are ``lost``, and are that once they were missed.
    """
    needed, derived = _named(source, place)
    gone = {path for path in derived if not path.is_file()}
    if new := sorted(gone - lost):
        lost.update(new)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(new[0]))
    with ExitStack() as stack:
        files: list[tuple[IO[bytes], Path]] = []
        for path in [*needed, *(path for path in derived if path not in gone)]:
            target = place.folder / path.relative_to(source.folder)
            files.append((stack.enter_context(fs.open_plain(path)), target))
        yield files


def _named(source: Layout, place: Layout) -> tuple[list[Path], list[Path]]:
    """The paths in ``source`` of what the catalog of ``place`` names: needed, and derived."""
    with Reader(place.folder) as copy, database_errors(place.catalog):
        segments = catalog.segments(copy.connection)
        caches = catalog.caches(copy.connection)
    needed = [source.segments / Path(row.name).name for row in segments]
    derived = [source.segments / Path(row.tok_name).name for row in segments if row.tok_name]
    for row in caches:
        if row.kind in FILES_OF:
            derived.extend(FILES_OF[row.kind](source, row))
    return needed, derived


def _copy(file: IO[bytes], target: Path) -> None:
    try:
        with fs.NewFile(target.parent) as new:
            while block := file.read(_BLOCK):
                new.write(block)
            new.publish(target.name)
    except OSError as exc:
        raise StorageError(f"{file.name}: cannot read: {exc.strerror}") from exc
