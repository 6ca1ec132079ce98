"""Texts to unit vectors: model folders, tokens, batches and the runtimes that compute.

Names are loaded when they are first used, so that importing this package stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.lazy import lazy_names

if TYPE_CHECKING:
    from semsearch.encoders.encoder import Encoded, Encoder, TokenSink, open_encoder
    from semsearch.encoders.fingerprint import fingerprint_of


__all__ = ["Encoded", "Encoder", "TokenSink", "fingerprint_of", "open_encoder"]

__getattr__ = lazy_names(
    __name__,
    {
        "Encoded": ".encoder",
        "Encoder": ".encoder",
        "TokenSink": ".encoder",
        "fingerprint_of": ".fingerprint",
        "open_encoder": ".encoder",
    },
)
