"""An index, looked at quickly: `semsearch check` reads everything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from semsearch.cli.health.finding import Finding, Findings
from semsearch.collection.layout import Layout
from semsearch.errors import SemsearchError

if TYPE_CHECKING:
    from semsearch.collection.reader import Reader
    from semsearch.collection.snapshot import Snapshot
    from semsearch.store.catalog import EncoderRow

TOPIC = "index"
_LOCKS = Path("/proc/locks")
_REBUILD = "`semsearch compact` builds it again; until then searches do without"


def recorded_encoder(folder: Path) -> EncoderRow | None:
    """The encoder of an index, None without an index; what is damaged is told elsewhere."""
    from semsearch.collection.reader import Reader
    from semsearch.store import catalog

    try:
        with Reader(folder) as reader, reader.reading():
            return catalog.active_encoder(reader.connection)
    except (SemsearchError, OSError, ValueError):
        return None


def look_at_index(folder: Path) -> Findings:
    """Whether it opens, what it holds, whether its files are there, who writes, what was left."""
    from semsearch.collection.reader import Reader

    layout = Layout(folder)
    if not folder.is_dir():
        yield Finding(TOPIC, "folder", f"{folder}: none yet: `semsearch index CORPUS` makes it")
        return
    yield Finding(TOPIC, "folder", str(folder))
    holder = lock_holder(layout.lock)
    writing = f"process {holder}" if holder else "nobody"
    yield Finding(TOPIC, "being written by", writing)
    yield from _kept(folder)
    journal = _journal(layout)  # opening rolls it back
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        yield from _contents(snapshot)
        yield _derived_vectors(snapshot)
        yield _derived_words(snapshot)
        yield _left_over(layout, reader, snapshot, journal, holder)
    yield Finding(TOPIC, "every byte", "not read here: `semsearch check` does")


def lock_holder(lock: Path) -> int | None:
    """The process that holds a lock, asked without taking it, which would keep a writer out."""
    try:
        inode = str(lock.stat().st_ino)
        lines = _LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        parts = line.split()
        if "FLOCK" in parts and parts[-3].rpartition(":")[2] == inode:
            return int(parts[-4])
    return None


def _kept(folder: Path) -> Findings:
    """What a restored or repaired index took the place of: it may be large."""
    from semsearch.collection.beside import size_of
    from semsearch.resources import size

    for path in sorted(folder.glob("kept-*")):
        what = f"{path.name}, which another took the place of: {size(size_of(path))}"
        yield Finding(TOPIC, "kept", what, "note", "delete it when nothing is missed")


def _journal(layout: Layout) -> bool:
    try:
        return layout.journal.stat().st_size > 0
    except OSError:
        return False


def _contents(snapshot: Snapshot) -> Findings:
    generation = snapshot.generation
    yield Finding(
        TOPIC, "opens",
        f"generation {generation.gen:,}: {generation.n_document:,} documents,"
        f" {generation.n_passage:,} passages",
    )  # fmt: skip
    yield Finding(TOPIC, "vector files", f"{len(snapshot.segments):,}, each with its header")
    names = [row.tok_name for row in snapshot.segments if row.tok_name]
    gone = [name for name in names if not (snapshot.layout.segments / name).is_file()]
    if gone:
        yield Finding(
            TOPIC, "token files", f"{len(gone):,} of {len(names):,} missing", "note",
            "`semsearch compact --token-vectors` makes them again; until then they are computed",
        )  # fmt: skip
    elif names:
        yield Finding(TOPIC, "token files", f"{len(names):,}, all there")


def _derived_vectors(snapshot: Snapshot) -> Finding:
    row = snapshot.cache("faiss")
    if row is None:
        return Finding(TOPIC, "vector index", "none needed: every vector is compared")
    if (snapshot.layout.ann / row.name).is_file():
        return Finding(TOPIC, "vector index", f"there: {row.name}")
    return Finding(TOPIC, "vector index", f"missing: {row.name}", "note", _REBUILD)


def _derived_words(snapshot: Snapshot) -> Finding:
    row = snapshot.cache("lexical")
    if row is None:
        return Finding(TOPIC, "word index", "none yet: words are indexed in memory")
    names = list(json.loads(row.files)["files"])
    gone = [name for name in names if not (snapshot.layout.lexical / name).is_file()]
    if not gone:
        return Finding(TOPIC, "word index", f"there: {len(names):,} files")
    return Finding(
        TOPIC, "word index", f"{len(gone):,} of {len(names):,} files missing", "note", _REBUILD
    )


def _left_over(
    layout: Layout, reader: Reader, snapshot: Snapshot, journal: bool, holder: int | None
) -> Finding:
    """What a writer that was killed left; while one is at work, those are its files."""
    from semsearch.collection.beside import lexical_names
    from semsearch.store import catalog

    if holder is not None:
        return Finding(TOPIC, "left by a killed writer", "not asked: one is at work")
    with reader.reading():
        named = catalog.file_names(reader.connection) | lexical_names(snapshot)
    found = [path.name for path in layout.folder.glob("before-*")]
    found += [path.name for path in layout.folder.glob(".tmp-*")]
    for folder in layout.folders:
        if folder.is_dir():
            found += [path.name for path in folder.iterdir() if path.name not in named]
    if journal:
        found.append(f"{layout.journal.name} (rolled back now)")
    if not found:
        return Finding(TOPIC, "left by a killed writer", "nothing")
    told = ", ".join(sorted(found)[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    advice = "nothing refers to it: the next command that writes removes it"
    return Finding(TOPIC, "left by a killed writer", told, "note", advice)
