"""How to search: what a caller may choose, checked before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from semsearch.collection.snapshot import Snapshot
from semsearch.errors import UsageError
from semsearch.ranking.settings import MOST_CANDIDATES, Ranking
from semsearch.store.filters import Filter

Mode = Literal["hybrid", "dense", "lexical"]
MODES: tuple[Mode, ...] = ("hybrid", "dense", "lexical")

MOST_HITS = 100_000


@dataclass(frozen=True, slots=True)
class Options:
    """How to search. ``dims`` None is the index's own width.

    ``min_score`` drops lower hits; ``exact`` scans every vector instead of asking FAISS. ``rerank``
    is ``self``, ``none`` or a cross-encoder; None is the ranking's own in ``hybrid`` mode and
    ``none`` in the others. ``ranking`` None is the index's: what was tuned, else the default.
    ``diversity``, 0 to 1, orders the documents that are left of the ranking's ``depth`` again, so
    that hits differ (see ``semsearch.ranking.diversity``), and k of them are kept.
    """

    mode: Mode = "hybrid"
    dims: int | None = None
    conditions: Filter = ()
    min_score: float | None = None
    exact: bool = False
    rerank: str | None = None
    ranking: Ranking | None = None
    diversity: float = 0.0

    def reranker(self, ranking: Ranking) -> str:
        """The reranker's name that these options mean, given the index's ranking."""
        if self.rerank is not None:
            return self.rerank
        return (self.ranking or ranking).rerank if self.mode == "hybrid" else "none"

    def width(self, snapshot: Snapshot, k: int) -> int:
        """The dims to search an index with. Raises UsageError for options that do not fit it."""
        if not 1 <= k <= MOST_HITS:
            raise UsageError(f"k must be between 1 and {MOST_HITS}, not {k}")
        if not 0 <= self.diversity <= 1:
            raise UsageError(f"diversity must be between 0 and 1, not {self.diversity}")
        if self.diversity and k > MOST_CANDIDATES:
            raise UsageError(f"with diversity k must be at most {MOST_CANDIDATES}, not {k}")
        if self.mode not in MODES:
            raise UsageError(f"unknown mode {self.mode!r}: choose one of {', '.join(MODES)}")
        dims = snapshot.dims if self.dims is None else self.dims
        if len(snapshot.rows) and not 1 <= dims <= snapshot.dims:
            raise UsageError(
                f"dims must be between 1 and {snapshot.dims}, the width of this index, not {dims}"
            )
        return dims


DEFAULT = Options()
