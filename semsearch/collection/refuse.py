"""Folders that no index may be written into."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.errors import Corrupt, InputError

if TYPE_CHECKING:
    from semsearch.collection.layout import Layout


def refuse_foreign_folder(layout: Layout) -> None:
    """A new index goes into a new or empty folder, not among somebody's files.

    Raises InputError.
    """
    folder = layout.folder
    if layout.lock.exists() or layout.catalog.exists() or not folder.is_dir():
        return
    made_just_now = (layout.lock, layout.catalog, layout.journal)
    if any(path not in (*layout.folders, *made_just_now) for path in folder.iterdir()):
        raise InputError("not empty and not an index: name a new folder with -i", folder)


def refuse_links(layout: Layout) -> None:
    """A writer removes files that nothing names: never in a folder somewhere else.

    Whoever made an index that comes from elsewhere chose where its links lead. Reading follows
    them: what is read is compared with its hash. Raises InputError.
    """
    for path in (layout.catalog, *layout.folders, layout.beside.folder):
        if path.is_symlink():
            raise InputError(
                "a link, and what it leads to is never written: put there what it leads to", path
            )


def refuse_lost_catalog(layout: Layout) -> None:
    """Vectors whose catalog is gone are not garbage: a copy of it makes them useful again.

    Raises Corrupt.
    """
    if layout.catalog.is_file() and layout.catalog.stat().st_size:
        return
    if any(layout.segments.glob("s-*.vec")):
        raise Corrupt(
            f"{layout.catalog}: the catalog is missing, but its vectors are there: put a copy of"
            f" it back, or a backup (`semsearch restore BACKUP -i {layout.folder} --replace`), or"
            " delete the folder and index again"
        )
