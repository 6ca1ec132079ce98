"""From a corpus to an up-to-date index: windows in, commits out, resumable at any point."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semsearch.indexing.run import run_indexing
    from semsearch.indexing.source import Source
    from semsearch.indexing.summary import OnDuplicate, Summary

_HOMES = {
    "OnDuplicate": "semsearch.indexing.summary",
    "Source": "semsearch.indexing.source",
    "Summary": "semsearch.indexing.summary",
    "run_indexing": "semsearch.indexing.run",
}

__all__ = ["OnDuplicate", "Source", "Summary", "run_indexing"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
