"""Measuring: rankings against judgements, one row per pipeline, and the report that holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.lazy import lazy_names

if TYPE_CHECKING:
    from semsearch.evaluation.measure import Measuring, evaluate
    from semsearch.evaluation.report import Report, ResultRow


__all__ = ["Measuring", "Report", "ResultRow", "evaluate"]

__getattr__ = lazy_names(
    __name__,
    {
        "Measuring": ".measure",
        "evaluate": ".measure",
        "Report": ".report",
        "ResultRow": ".report",
    },
)
