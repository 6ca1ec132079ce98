"""Why a document is not among the hits of a query, or which of them it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from semsearch.ranking.settings import MOST_CANDIDATES
from semsearch.store.filters import matches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from semsearch.search.options import Options
    from semsearch.search.searcher import Searcher
    from semsearch.types import Hit, Setting

Reason = Literal["hit", "filter", "min_score", "k", "diversity", "depth", "beyond"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a document stands for a query.

    ``reason`` is ``hit``; or what keeps it out: ``filter``, ``min_score``, ``diversity``, ``k``
    (further down than that), ``depth`` (the indexes propose it only when asked for more than the
    ranking's depth) or ``beyond`` (not even then). ``hit`` has its rank, score and explanation in
    the ranking that holds it, before ``min_score`` and ``diversity`` unless it is among the hits,
    ``setting`` says how that was made; both None where there is none.
    """

    reason: Reason
    setting: Setting | None = None
    hit: Hit | None = None


def standing(searcher: Searcher, text: str, document_id: str, k: int, options: Options) -> Standing:
    """Where a document stands among the answers to ``text``. Raises as ``search``, and NotFound."""
    found = searcher.reader.find(document_id)
    setting, hits = searcher.explain(text, k, options)
    hit = _of(document_id, hits)
    if hit is not None:
        return Standing("hit", setting, hit)
    if not matches(found.document.metadata, options.conditions):
        return Standing("filter")
    whole = replace(options, min_score=None, diversity=0.0)
    depth = max(setting.depth, k)
    setting, hits = searcher.explain(text, depth, whole)
    hit = _of(document_id, hits)
    if hit is not None:
        return Standing(_kept_out(hit, k, options), setting, hit)
    setting, hits = searcher.explain(text, max(depth, MOST_CANDIDATES), whole)
    hit = _of(document_id, hits)
    return Standing("beyond") if hit is None else Standing("depth", setting, hit)


def _kept_out(hit: Hit, k: int, options: Options) -> Reason:
    if options.min_score is not None and hit.score < options.min_score:
        return "min_score"
    return "diversity" if hit.rank <= k else "k"


def _of(document_id: str, hits: Sequence[Hit]) -> Hit | None:
    return next((hit for hit in hits if hit.id == document_id), None)
