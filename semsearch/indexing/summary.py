"""What an indexing run did."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from semsearch.store.passages import Extent

OnDuplicate = Literal["error", "replace", "skip"]


@dataclass
class Summary:
    """What an indexing run did, in documents; ``tokens`` and ``unknown`` are of encoded texts.

    Of the documents read, changed or not: ``chunked`` have several passages, ``passages`` is the
    number of all their passages, ``truncated`` have text that no vector holds, ``lost`` tokens in
    all (a lower bound where a text is far beyond the maximum length).
    """

    new: int = 0
    updated: int = 0
    unchanged: int = 0
    moved: int = 0
    empty: int = 0
    duplicates: int = 0
    pruned: int = 0
    missing: int = 0
    encoded: int = 0
    passages: int = 0
    chunked: int = 0
    truncated: int = 0
    lost: int = 0
    tokens: int = 0
    unknown: int = 0
    empty_ids: list[str] = field(default_factory=list)

    def count(self, extent: Extent) -> None:
        """Count a document's passages."""
        self.passages += extent.passages
        self.chunked += extent.passages > 1
        self.truncated += extent.truncated > 0
        self.lost += extent.lost

    @property
    def read(self) -> int:
        """Documents read, in all."""
        return self.new + self.updated + self.unchanged + self.empty + self.duplicates

    @property
    def unknown_share(self) -> float:
        """The share of encoded tokens that the model does not know, 0 to 1."""
        return self.unknown / self.tokens if self.tokens else 0.0
