"""A lexical index in memory, for the passages that the stored one does not cover yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from semsearch.errors import UsageError
from semsearch.lexical import engine
from semsearch.lexical.bm25 import Bm25
from semsearch.lexical.languages import ENGLISH
from semsearch.lexical.tokens import words
from semsearch.types import Candidates

if TYPE_CHECKING:
    from semsearch.types import Ints

_HEAP_BYTES = 15 << 20


class MemoryLexical:
    """Passages indexed in memory; a ``Lexical``.

    ``vids`` is int64 ``(n,)``, not negative, in any order and each only once. Texts and queries
    are stemmed as ``language`` is. Its statistics are
    those of these passages alone, so its scores differ from those of the stored index: merging
    both by score is an approximation that ends when the stored index covers them.
    Raises UsageError for vids that do not fit, MissingExtra without tantivy.
    """

    def __init__(self, vids: Ints, texts: Sequence[str], language: str = ENGLISH) -> None:
        numbers = np.asarray(vids, dtype=np.int64)
        if numbers.shape != (len(texts),):
            raise UsageError(f"{numbers.shape} vids do not fit {len(texts)} texts")
        if len(numbers) and (numbers.min() < 0 or len(np.unique(numbers)) < len(numbers)):
            raise UsageError("vids must not be negative, and each may be there only once")
        index = engine.create()
        from tantivy import Document

        engine.require_room(_HEAP_BYTES)
        writer = index.writer(_HEAP_BYTES, 1)
        for vid, text in zip(numbers.tolist(), texts, strict=True):
            document = Document()
            document.add_unsigned(engine.VID, vid)
            document.add_text(engine.TEXT, " ".join(words(text, language)))
            writer.add_document(document)
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
        self._bm25 = Bm25(index.searcher(), index.schema, language)

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
