"""Making a damaged index whole again: all that can be read, in a new one that takes its place.

Documents and vectors are taken over as they are stored; a vector that is lost is computed again
from the text that the catalog has. What was there is kept beside (``collection.replace``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from semsearch import fs
from semsearch.collection.backup import own_bytes
from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.lexical_cache import build_lexical_cache
from semsearch.collection.maintain import compact
from semsearch.collection.reader import Reader
from semsearch.collection.replace import keep_and_replace
from semsearch.collection.salvage import hopeless, open_salvage
from semsearch.collection.vector_build import build_vector_cache
from semsearch.collection.writer import open_for_writing
from semsearch.errors import Corrupt
from semsearch.indexing.rebuild import Load, Rebuilding
from semsearch.resources import require_space


@dataclass
class Repair:
    """What a repair keeps, or would keep, and what it cannot.

    ``recorded`` is how many documents the newest generation had (None where that is lost), ``lost``
    names those whose rows are damaged as far as they can be read. ``computed`` passages have lost
    their vectors, which are made again from their texts.
    """

    recorded: int | None
    lost: list[str]
    documents: int = 0
    passages: int = 0
    computed: int = 0
    kept: Path | None = None

    @property
    def lost_documents(self) -> int:
        """How many documents cannot be kept."""
        if self.recorded is None:
            return len(self.lost)
        return max(self.recorded - self.documents, 0)


def survey(folder: str | Path) -> Repair:
    """What ``repair`` would keep, compute and lose. Raises NotFound, Corrupt if it cannot help."""
    salvage = open_salvage(Layout(Path(folder)))
    try:
        found = Repair(salvage.recorded, salvage.lost)
        for saved in salvage.documents():
            found.documents += 1
            vectors = salvage.vectors_of(saved)
            found.passages += max(len(vectors), 1)
            found.computed += sum(vector is None for vector in vectors) if vectors else 1
        return found
    finally:
        salvage.close()


def repair(
    folder: str | Path,
    load: Load,
    progress: Callable[[int], None] | None = None,
) -> Repair:
    """Rebuild a damaged index from what can be read of it; what was there is kept (``kept``).

    ``load`` is called when vectors are lost, with the model that made them, or None where that is
    lost, too. ``progress`` is called with the number of documents done since the last call. Raises
    NotFound, Corrupt if nothing can be read, Mismatch for another model, Locked, StorageError;
    then the index is as it was.
    """
    layout = Layout(Path(folder))
    if not layout.catalog.is_file():
        open_salvage(layout).close()  # says that there is none
    with fs.exclusive_lock(layout.lock):
        require_space(layout.folder, own_bytes(layout), "a repaired copy")
        salvage = open_salvage(layout)
        try:
            with fs.temporary_folder(layout.folder) as place:
                done = Rebuilding(salvage, load, progress).run(Layout(place))
                if not done.documents and (salvage.recorded or salvage.lost):
                    raise hopeless(layout, "no document can be read")
                _require_sound(place)
                kept = keep_and_replace(layout, Layout(place))
        finally:
            salvage.close()
    return Repair(
        salvage.recorded, salvage.lost, done.documents, done.passages, done.computed, kept
    )


def _require_sound(place: Path) -> None:
    with Reader(place) as reader:
        for finding in check_index(reader):
            if not finding.is_note:
                raise Corrupt(f"{place}: the repaired index is damaged: {finding}")


def remake_derived(folder: str | Path) -> int:
    """Make the derived files again, and drop token vectors that are damaged.

    Returns how many passages are without token vectors that are to have some. Raises what
    ``open_for_writing`` raises.
    """
    with open_for_writing(Layout(Path(folder))) as writer:
        compact(writer)
        build_vector_cache(writer, force=True)
        build_lexical_cache(writer, force=True)
        tokens = writer.snapshot.tokens
        return len(tokens.missing()) if tokens.format is not None else 0
