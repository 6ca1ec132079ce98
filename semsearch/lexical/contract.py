"""What every lexical index offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from semsearch.types import Candidates

if TYPE_CHECKING:
    from semsearch.types import Ints


class Lexical(Protocol):
    """BM25 (k1 1.2, b 0.75) over passages, each known by its vid.

    A score depends on how many passages the index holds and how long they are, so scores of two
    indexes are of one kind but not of one scale: a merged list is ordered approximately.
    Safe to call from several threads at once.
    """

    def __len__(self) -> int:
        """The number of passages, dead ones included: the statistics are theirs."""
        ...

    def search(
        self,
        texts: Sequence[str],
        k: int,
        allowed: Ints | None = None,
        excluded: Ints | None = None,
    ) -> Candidates:
        """The ``k`` best passages for each of Q texts, ``(Q, k)``, padded with -1 and -inf.

        A passage matches if it holds any word of the text; words repeated in the text count as
        often. Equal scores by ascending vid. ``allowed`` (int64, ascending) limits the result to
        these vids, ``excluded`` (int64, ascending) removes some; each row then holds
        min(k, number of matches) vids. A text without any word matches nothing.
        Raises UsageError for a negative ``k``.
        """
        ...
