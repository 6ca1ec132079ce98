"""Searching an index: candidates, fusion, documents, hits; and the five-line Python interface."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semsearch.search.facade import Index, open
    from semsearch.search.searcher import Options, Searcher

_HOMES = {
    "Index": "semsearch.search.facade",
    "open": "semsearch.search.facade",
    "Options": "semsearch.search.searcher",
    "Searcher": "semsearch.search.searcher",
}

__all__ = ["Index", "Options", "Searcher", "open"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
