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

_JOURNAL = "catalog.db-journal"
_FOLDERS = ("seg", "ann", "lex")


def keep_and_replace(layout: Layout, new: Layout) -> Path:
    """Let the index ``new``, sound and durable, serve in the place of ``layout``.

    ``new`` is on the same disk and is used up. The caller holds the lock of ``layout``. Returns the
    folder that keeps what was there. Raises StorageError; then the old index is as it was.
    """
    roll_back_journal(layout.catalog)
    kept = _next_kept(layout)
    with fs.new_folder(kept) as place:
        for name in _FOLDERS:
            _link_all(layout.folder / name, place / name)
        for name in (layout.catalog.name, _JOURNAL):
            if (layout.folder / name).is_file():
                fs.link(layout.folder / name, place / name)
        fs.sync_folder(place)
    moved = {name: _move_all(new.folder / name, layout.folder / name) for name in _FOLDERS}
    fs.remove(layout.folder / _JOURNAL)  # one that could not be rolled back, or the new one would
    fs.sync_folder(layout.folder)
    fs.rename_file(new.catalog, layout.catalog)
    with suppress(StorageError):  # it is done: what is left over costs space alone
        for name in _FOLDERS:
            for path in _files(layout.folder / name):
                if path.name not in moved[name]:
                    fs.remove(path)
    return kept


def _link_all(source: Path, target: Path) -> None:
    for path in _files(source):
        fs.make_folder(target)
        fs.link(path, target / path.name)
    if target.is_dir():
        fs.sync_folder(target)


def _move_all(source: Path, target: Path) -> set[str]:
    """Move the files of a folder into another; returns their names."""
    found = _files(source)
    for path in found:
        fs.make_folder(target)
        fs.rename_file(path, target / path.name)
    return {path.name for path in found}


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
