"""Measuring: rankings against judgements, one row per pipeline, and the report that holds them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semsearch.evaluation.measure import evaluate
    from semsearch.evaluation.report import Report, ResultRow

_HOMES = {
    "evaluate": "semsearch.evaluation.measure",
    "Report": "semsearch.evaluation.report",
    "ResultRow": "semsearch.evaluation.report",
}

__all__ = ["Report", "ResultRow", "evaluate"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
