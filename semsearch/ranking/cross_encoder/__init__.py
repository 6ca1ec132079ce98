"""Reranking by cross-encoders: models that read the query and a passage together.

``open_cross_encoder`` is loaded when it is first used, so that importing this package stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.lazy import lazy_names

if TYPE_CHECKING:
    from semsearch.ranking.cross_encoder.reranker import open_cross_encoder

__all__ = ["open_cross_encoder"]

__getattr__ = lazy_names(__name__, {"open_cross_encoder": ".reranker"})
