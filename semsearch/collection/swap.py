"""Swapping an index with the one beside it: the other model's catalog in one commit.

1. The files of the index beside get names in the index's own folders: nothing refers to them yet.
2. What is served is kept, whole and durable, in ``before-GENERATION``.
3. The catalog beside replaces the catalog, in one SQLite transaction: the only commit point.
4. What was kept is put beside; files that nothing refers to any more are removed.

Whatever stops it before 3 leaves the old index, after 3 the new one; ``beside.settle`` does the
rest when the index is next opened for writing. Ids of passages and documents are never shared by
the two (``fresh_ids``): nobody finds a document of one behind a passage of the other.
"""

from __future__ import annotations

import json
from dataclasses import replace

from semsearch import fs
from semsearch.collection.beside import FOLLOWED, SERVED, choices_of, link_files, settle
from semsearch.collection.writer import Writer, collect_garbage, open_for_writing
from semsearch.store import catalog
from semsearch.store.database import copy_database

_ID_BITS = 40
"""An index made beside another starts its ids at the next multiple of two to the power of this."""


_ERA = "era"
"""The setting that holds the highest multiple that was used in this folder."""


def fresh_ids(live: Writer, beside: Writer) -> None:
    """Start the ids of a new index beside where none that was ever served here had any."""
    era = max(_era(live), int(catalog.get_meta(live.connection, _ERA) or 0)) + 1
    with beside.transaction():
        catalog.start_ids_above(beside.connection, era << _ID_BITS)
        catalog.set_meta(beside.connection, _ERA, str(era))


def shares_ids(live: Writer, beside: Writer) -> bool:
    """Whether the ids of two indexes can meet: one was copied there by hand."""
    return _era(live) == _era(beside)


def _era(writer: Writer) -> int:
    used = (catalog.next_id(writer.connection, table) - 1 for table in ("document", "passage"))
    return max(used) >> _ID_BITS


def swap_beside(live: Writer) -> None:
    """Let the index beside take the place of the one that is served, which is then beside.

    Both hold the same documents by now. Readers wait for the commit, at most. Raises StorageError,
    Corrupt; what was served then goes on being served.
    """
    layout = live.layout
    with open_for_writing(layout.beside) as beside:
        gen = max(live.snapshot.generation.gen, beside.snapshot.generation.gen) + 1
        _mark_newest(beside, gen)
        link_files(beside.snapshot, layout)
        _keep(live, gen, beside)
        live.take_over(beside.connection)
    settle(layout, live.snapshot)
    collect_garbage(live)


def _mark_newest(beside: Writer, gen: int) -> None:
    """Give the index beside the next generation: older snapshots miss rows from there on."""
    with beside.transaction():
        catalog.add_generation(beside.connection, replace(beside.snapshot.generation, gen=gen))
        catalog.set_meta(beside.connection, catalog.HORIZON, str(gen))
        catalog.set_meta(beside.connection, catalog.SWAPPED, str(gen))
    beside.refresh()


def _keep(live: Writer, gen: int, beside: Writer) -> None:
    """Keep what is served, and which choices of its successor it has nothing to learn from."""
    followed = json.dumps(choices_of(beside.connection), sort_keys=True)
    eras = [catalog.get_meta(one.connection, _ERA) for one in (live, beside)]
    kept = live.layout.kept(gen)
    with fs.new_folder(kept.folder) as folder:
        place = type(kept)(folder)
        link_files(live.snapshot, place)
        copy = copy_database(live.connection, place.catalog)
        try:
            catalog.set_meta(copy, SERVED, str(live.snapshot.generation.gen))
            catalog.set_meta(copy, FOLLOWED, followed)
            catalog.set_meta(copy, _ERA, str(max(int(era or 0) for era in eras)))
        finally:
            copy.close()
        fs.sync_file(place.catalog)
        fs.sync_folder(folder)
