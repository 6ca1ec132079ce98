"""Where the files of an index are, and the sizes at which it reorganises itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FLUSH_ROWS = 4_096
"""So many recent vectors in the catalog become a segment."""

MERGE_LIMITS = (65_536, 1_048_576, 16_777_216)
MERGE_COUNT = 16
"""So many neighbouring segments below a limit become one."""

ROTATION_ROWS_PER_DIM = 10
"""A rotation is fitted once there are so many passages for each dimension ..."""

ROTATION_SAMPLE = 50_000
"""... on so many of them at most."""

EXACT_ROWS = 50_000
"""Up to so many passages that a filter keeps are looked at one by one."""

UNCOVERED_ROWS = 10_000
UNCOVERED_SHARE = 0.10
"""Derived files are built anew when more rows than both of these are not in them."""


UNCOVERED_WORDS = 16_384
"""While a run goes on, so many passages at most wait for the lexical index."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths inside an index folder."""

    folder: Path

    @property
    def lock(self) -> Path:
        """The writer's lock; never deleted."""
        return self.folder / "LOCK"

    @property
    def catalog(self) -> Path:
        """The SQLite file: the only commit point."""
        return self.folder / "catalog.db"

    @property
    def segments(self) -> Path:
        """Immutable vector files."""
        return self.folder / "seg"

    @property
    def ann(self) -> Path:
        """Derived FAISS files; may be deleted at any time."""
        return self.folder / "ann"

    @property
    def lexical(self) -> Path:
        """The derived lexical folder; may be deleted at any time."""
        return self.folder / "lex"

    @property
    def journal(self) -> Path:
        """SQLite's own: what a commit that was cut short has to be undone by."""
        return self.catalog.with_name(f"{self.catalog.name}-journal")

    @property
    def folders(self) -> tuple[Path, Path, Path]:
        """The folders of the files that the catalog names."""
        return self.segments, self.ann, self.lexical

    @property
    def beside(self) -> Layout:
        """A second index of the same documents, by another model: see ``collection.beside``."""
        return Layout(self.folder / "beside")

    def kept(self, gen: int) -> Layout:
        """Where the index that served before is kept while generation ``gen`` takes its place."""
        return Layout(self.folder / f"before-{gen}")
