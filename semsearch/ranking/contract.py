"""What every reranker offers: a second, dearer score for few candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from semsearch.types import Candidates, Floats


class Reranker(Protocol):
    """Scores candidate passages for queries; higher is better, comparable within one query.

    ``name`` is what people choose it by: ``self``, or a cross-encoder's name.
    """

    name: str

    def score(self, queries: Sequence[str], candidates: Candidates) -> Floats:
        """A score for each candidate, float32 (Q, k) in the order of ``candidates``.

        -inf where a row is padded. Raises ModelError, Corrupt.
        """
        ...
