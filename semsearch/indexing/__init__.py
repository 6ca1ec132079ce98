"""From a corpus to an up-to-date index: windows in, commits out, resumable at any point."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.lazy import lazy_names

if TYPE_CHECKING:
    from semsearch.indexing.long_text import LongText, choose_long_text
    from semsearch.indexing.run import require_fit, run_indexing
    from semsearch.indexing.source import Source
    from semsearch.indexing.summary import OnDuplicate, Summary
    from semsearch.indexing.token_vectors import (
        choose_token_vectors,
        complete_tokens,
        refuse_token_vectors,
    )


__all__ = [
    "LongText",
    "OnDuplicate",
    "Source",
    "Summary",
    "choose_long_text",
    "choose_token_vectors",
    "complete_tokens",
    "refuse_token_vectors",
    "require_fit",
    "run_indexing",
]

__getattr__ = lazy_names(
    __name__,
    {
        "LongText": ".long_text",
        "OnDuplicate": ".summary",
        "Source": ".source",
        "Summary": ".summary",
        "choose_long_text": ".long_text",
        "choose_token_vectors": ".token_vectors",
        "complete_tokens": ".token_vectors",
        "refuse_token_vectors": ".token_vectors",
        "require_fit": ".run",
        "run_indexing": ".run",
    },
)
