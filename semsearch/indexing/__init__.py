"""From a corpus to an up-to-date index: windows in, commits out, resumable at any point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.lazy import lazy_names

if TYPE_CHECKING:
    from semsearch.indexing.run import run_indexing
    from semsearch.indexing.source import Source
    from semsearch.indexing.summary import OnDuplicate, Summary


__all__ = ["OnDuplicate", "Source", "Summary", "run_indexing"]

__getattr__ = lazy_names(
    __name__,
    {
        "OnDuplicate": ".summary",
        "Source": ".source",
        "Summary": ".summary",
        "run_indexing": ".run",
    },
)
