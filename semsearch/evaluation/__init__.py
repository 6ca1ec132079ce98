"""Measuring: rankings against judgements, one row per pipeline, and the report that holds them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semsearch.evaluation.evaluate import evaluate
    from semsearch.evaluation.rows import Report, ResultRow

_HOMES = {
    "evaluate": "semsearch.evaluation.evaluate",
    "Report": "semsearch.evaluation.rows",
    "ResultRow": "semsearch.evaluation.rows",
}

__all__ = ["Report", "ResultRow", "evaluate"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
