"""Searching an index: candidates, fusion, documents, hits; and the five-line Python interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.lazy import lazy_names

if TYPE_CHECKING:
    from semsearch.search.facade import Index, open
    from semsearch.search.options import Options
    from semsearch.search.searcher import Searcher


__all__ = ["Index", "Options", "Searcher", "open"]

__getattr__ = lazy_names(
    __name__,
    {
        "Index": ".facade",
        "open": ".facade",
        "Options": ".options",
        "Searcher": ".searcher",
    },
)
