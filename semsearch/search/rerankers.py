"""The reranker that a name means, ready for one batch of queries; cross-encoders stay loaded."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from semsearch.collection.reader import Reader
from semsearch.ranking.late_interaction import SELF, SelfReranker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from semsearch.collection.snapshot import Snapshot
    from semsearch.encoders import Encoder
    from semsearch.maxsim import Codes
    from semsearch.ranking.contract import Reranker
    from semsearch.search.questions import Questions
    from semsearch.types import Bools, Ints

NONE = "none"


class Rerankers:
    """Rerankers over the passages that ``reader`` reads. Safe to use from several threads."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._cross_encoders: dict[str, Reranker] = {}
        self._computed: dict[int, NDArray[np.uint8]] = {}

    def late_interaction(
        self, encoder: Encoder, questions: Questions, snapshot: Snapshot
    ) -> Reranker:
        """The reranker ``self`` for these questions over the passages of a snapshot."""

        def codes_of(vids: Ints) -> tuple[Bools, Codes]:
            return snapshot.tokens.take(snapshot.ordinals(vids))

        return SelfReranker(encoder, questions.tokens, codes_of, self._texts_of, self._computed)

    def cross_encoder(self, name: str) -> Reranker:
        """A cross-encoder by its folder or name. Raises NotFound, ModelError, UsageError."""
        with self._lock:
            if name not in self._cross_encoders:
                from semsearch.ranking.cross_encoder import open_cross_encoder

                self._cross_encoders[name] = open_cross_encoder(name, self._texts_of)
            return self._cross_encoders[name]

    def _texts_of(self, vids: Sequence[int]) -> Mapping[int, str]:
        found = self._reader.passages_of(vids)
        return {
            vid: row.document.passage(passage.start, passage.end)
            for vid, (passage, row) in found.items()
        }


__all__ = ["NONE", "SELF", "Rerankers"]
