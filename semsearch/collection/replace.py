"""Another index in the place of one that is damaged, or not wanted any more: one rename decides.

1. What is there, whatever its state, gets second names in ``kept-N``, durably.
2. The new index's files move into the folder: a name stands for what the file holds, so one that
   is replaced was the same or damaged.
3. The new catalog is renamed over the old one: the only commit point.
4. What only the old one named is removed; ``kept-N`` has it.

Whatever stops it before 3 leaves the old index, after 3 the new one; the next writer removes what
nothing names.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from semsearch import fs
from semsearch.errors import StorageError
from semsearch.store.database import roll_back_journal

if TYPE_CHECKING:
    from pathlib import Path

    from semsearch.collection.layout import Layout


def keep_and_replace(layout: Layout, new: Layout) -> Path:
    """Let the index ``new``, sound and durable, serve in the place of ``layout``.

    ``new`` is on the same disk and is used up. The caller holds the lock of ``layout``. Returns the
    folder that keeps what was there. Raises StorageError; then the old index is as it was.
    """
    roll_back_journal(layout.catalog)
    kept = _next_kept(layout)
    with fs.new_folder(kept) as place:
        for folder in layout.folders:
            _link_all(folder, place / folder.name)
        for path in (layout.catalog, layout.journal):
            if path.is_file():
                fs.link(path, place / path.name)
        fs.sync_folder(place)
    moved: set[Path] = set()
    for source, target in zip(new.folders, layout.folders, strict=True):
        moved |= _move_all(source, target)
    fs.remove(layout.journal)  # one that could not be rolled back, or the new one would
    fs.sync_folder(layout.folder)
    fs.rename_file(new.catalog, layout.catalog)
    with suppress(StorageError):  # it is done: what is left over costs space alone
        for folder in layout.folders:
            for path in _files(folder):
                if path not in moved:
                    fs.remove(path)
    return kept


def _link_all(source: Path, target: Path) -> None:
    for path in _files(source):
        fs.make_folder(target)
        fs.link(path, target / path.name)
    if target.is_dir():
        fs.sync_folder(target)


def _move_all(source: Path, target: Path) -> set[Path]:
    """Move the files of a folder into another; returns where they are now."""
    moved = set()
    for path in _files(source):
        fs.make_folder(target)
        fs.rename_file(path, target / path.name)
        moved.add(target / path.name)
    return moved


def _files(folder: Path) -> list[Path]:
    """The files of a folder, if it is there; no temporary ones, and nothing by way of a link."""
    if not folder.is_dir():
        return []
    paths = sorted(folder.iterdir())
    return [p for p in paths if p.is_file() and not p.is_symlink() and p.name[:5] != ".tmp-"]


def _next_kept(layout: Layout) -> Path:
    number = 1
    while (layout.folder / f"kept-{number}").exists():
        number += 1
    return layout.folder / f"kept-{number}"
