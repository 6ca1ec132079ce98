"""Reading the lexical folder: verified, private, and never writing into it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from semsearch.errors import Corrupt
from semsearch.fs import storage_errors
from semsearch.lexical import engine, files
from semsearch.lexical.bm25 import Bm25
from semsearch.lexical.state import LexicalState
from semsearch.types import Candidates

if TYPE_CHECKING:
    from semsearch.types import Ints


class LexicalIndex:
    """One recorded state of a lexical folder, opened for searching; a ``Lexical``.

    It answers from that state whatever a writer does later, and holds no file of its own.
    """

    def __init__(self, bm25: Bm25, state: LexicalState) -> None:
        self._bm25 = bm25
        self.state = state

    @classmethod
    def open(cls, folder: Path, state: LexicalState, cache: Path | None = None) -> LexicalIndex:
        """Verify the files of ``state`` and map them into memory.

        ``cache`` is a folder in which the hashes of large indexes may be remembered.
        Raises Corrupt for a damaged or missing file, Mismatch for another version's state,
        MissingExtra without tantivy, StorageError if there is no room for temporary files.
        """
        state.require_current()
        files.verify(folder, state.files, cache)
        # tantivy locks and watches the folder that it opens, so it gets one of its own. The files
        # stay mapped when their links go: nothing is left behind, even by a process that is killed.
        with storage_errors(Path(tempfile.gettempdir())):
            private = Path(tempfile.mkdtemp(prefix="semsearch-"))
        try:
            bm25 = _open_private(private, folder.resolve(), state)
        finally:
            files.clear(private)
        if len(bm25) != state.passages:
            raise Corrupt(
                f"{folder} holds {len(bm25)} passages, not {state.passages}:"
                " run `semsearch compact` to build it anew"
            )
        return cls(bm25, state)

    def __len__(self) -> int:
        return len(self._bm25)

    def search(
        self,
        texts: Sequence[str],
        k: int,
        allowed: Ints | None = None,
        excluded: Ints | None = None,
    ) -> Candidates:
        """The ``k`` best passages for each text, as ``contract.Lexical`` says."""
        return self._bm25.search(texts, k, allowed, excluded)


def _open_private(private: Path, folder: Path, state: LexicalState) -> Bm25:
    with storage_errors(private):
        for name in state.files:
            (private / name).symlink_to(folder / name)
        (private / files.META).write_text(state.meta, encoding="utf-8")
    try:
        index = engine.open_folder(str(private))
        return Bm25(index.searcher(), index.schema, state.language)
    except (ValueError, OSError) as exc:
        raise Corrupt(
            f"{folder} cannot be opened ({exc}): run `semsearch compact` to build it anew"
        ) from exc
