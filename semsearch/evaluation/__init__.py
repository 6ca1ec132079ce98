"""Measuring: rankings against judgements, one row per pipeline, and the report that holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.lazy import lazy_names

if TYPE_CHECKING:
    from semsearch.evaluation.comparing import compare
    from semsearch.evaluation.comparison import Comparison
    from semsearch.evaluation.measure import Measuring, evaluate, evaluate_ranking
    from semsearch.evaluation.report import Report, ResultRow


__all__ = [
    "Comparison",
    "Measuring",
    "Report",
    "ResultRow",
    "compare",
    "evaluate",
    "evaluate_ranking",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Comparison": ".comparison",
        "Measuring": ".measure",
        "compare": ".comparing",
        "evaluate": ".measure",
        "evaluate_ranking": ".measure",
        "Report": ".report",
        "ResultRow": ".report",
    },
)
