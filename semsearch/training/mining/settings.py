"""What counts as a hard negative: the rules, checked before anything is computed.

The margins are the positive-aware mining of G. de Souza P. Moreira et al., "NV-Retriever: Improving
text embedding models with effective hard-negative mining", 2024, arXiv:2407.15831. A document that
scores about as high as a positive is probably one that nobody judged, so the positive's score
anchors what a negative may have: TopK-MarginPos takes a fixed amount off it, TopK-PercPos keeps a
share of it. Their best was a share of 0.95.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from semsearch.errors import UsageError
from semsearch.search.options import MODES, MOST_HITS, Mode

Sample: TypeAlias = Literal["first", "random"]
Layout: TypeAlias = Literal["triplets", "tuples"]
Rule: TypeAlias = Literal["margin", "relative_margin", "max_score", "cross_encoder"]

_LOWEST_SHARE = 0.5
_RANKS = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")


@dataclass(frozen=True, slots=True)
class Mining:
    """How to mine.

    Candidates are the documents at ``ranks`` (first and last, from 1) of the ranking by ``mode``
    and ``rerank`` (as in ``Options``), counted without what is known to be right. For each positive
    ``per_query`` of them are taken: the ``first``, or at ``random`` by ``seed``.

    All scores are cosines of the index's own vectors, whatever ranked the candidate. A negative
    scores at most the positive's score less ``margin``; at most ``relative_margin`` of it (0.95
    keeps 5 % of its size below it); at most ``max_score``. Each positive anchors its own negatives,
    as in the paper: the lowest of several would leave nothing beside one that the model does not
    find, the best would put negatives above the others. With ``cross_encoder`` candidates go that
    it scores higher than the positive less ``cross_encoder_margin``, in its own raw scores.

    With ``judged`` documents that were judged not relevant come first, the highest cosine first,
    whatever their rank and score: people said so, and the rules only guess. ``triplets`` gives a
    row for each negative, ``tuples`` one for each positive that has all ``per_query`` of them.
    ``on_progress`` is told how many more queries are done.
    """

    mode: Mode = "hybrid"
    rerank: str | None = None
    ranks: tuple[int, int] = (10, 100)
    per_query: int = 1
    margin: float | None = None
    relative_margin: float | None = None
    max_score: float | None = None
    cross_encoder: str | None = None
    cross_encoder_margin: float = 0.0
    sample: Sample = "first"
    seed: int = 0
    layout: Layout = "triplets"
    judged: bool = False
    on_progress: Callable[[int], None] = lambda _: None

    def check(self) -> None:
        """Raise UsageError for what makes no sense, in the words of the command line."""
        first, last = self.ranks
        if not 1 <= first <= last <= MOST_HITS:
            raise UsageError(
                f"ranks {first}-{last} are no range: the first is 1 or more and not above the last,"
                f" the last at most {MOST_HITS}"
            )
        if not 1 <= self.per_query <= MOST_HITS:
            raise UsageError(f"{self.per_query} negatives for each positive: ask for 1 or more")
        if self.layout == "tuples" and self.per_query > last - first + 1 and not self.judged:
            raise UsageError(
                f"ranks {first}-{last} hold {last - first + 1} documents, and each tuple needs"
                f" {self.per_query}: widen the ranks or ask for fewer negatives"
            )
        self._check_scores()
        self._check_names()

    def _check_scores(self) -> None:
        if self.margin is not None and not 0 <= self.margin <= 2:
            raise UsageError(
                f"the margin is what a cosine is to be lower by, from 0 to 2, not {self.margin}"
            )
        share = self.relative_margin
        if share is not None and not _LOWEST_SHARE <= share <= 1:
            raise UsageError(
                "the relative margin is the share of the positive's score that a negative may"
                f" reach, from {_LOWEST_SHARE} to 1 (0.95 keeps it 5 % below), not {share}"
            )
        if self.max_score is not None and not -1 <= self.max_score <= 1:
            raise UsageError(f"the highest score is a cosine, from -1 to 1, not {self.max_score}")
        if not math.isfinite(self.cross_encoder_margin) or self.cross_encoder_margin < 0:
            raise UsageError(
                "the cross-encoder's margin is a difference of its scores, 0 or more, not"
                f" {self.cross_encoder_margin}"
            )

    def _check_names(self) -> None:
        named = ((self.mode, MODES), (self.sample, get_args(Sample)))
        for name, known in (*named, (self.layout, get_args(Layout))):
            if name not in known:
                raise UsageError(f"{name!r} is unknown here: choose one of {', '.join(known)}")
        if self.seed < 0:
            raise UsageError(f"the seed must be 0 or more, not {self.seed}")
        if self.cross_encoder in ("self", "none"):
            raise UsageError(
                f"{self.cross_encoder!r} is no cross-encoder that could judge candidates:"
                " name its folder or repository"
            )
        if self.cross_encoder is None and self.cross_encoder_margin:
            raise UsageError("a margin of the cross-encoder needs a cross-encoder: name it too")

    def against(self, score: float, positive: float) -> Rule | None:
        """The first rule that a candidate with this cosine breaks beside a positive's, or None."""
        if self.margin is not None and score > positive - self.margin:
            return "margin"
        share = self.relative_margin
        if share is not None and score > positive - (1 - share) * abs(positive):
            return "relative_margin"
        if self.max_score is not None and score > self.max_score:
            return "max_score"
        return None


def parse_ranks(text: str) -> tuple[int, int]:
    """The first and last rank that ``10-100`` or ``10`` spell. Raises UsageError."""
    found = _RANKS.fullmatch(text.strip() if "-" in text else f"{text.strip()}-{text.strip()}")
    if found is None:
        raise UsageError(f"ranks {text!r} are no range: give the first and the last, as in 10-100")
    return int(found[1]), int(found[2])


USUAL = Mining()
