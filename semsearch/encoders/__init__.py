"""Texts to unit vectors: model folders, tokens, batches and the runtimes that compute.

Names are loaded when they are first used, so that importing this package stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semsearch.encoders.encoder import Encoded, Encoder, open_encoder
    from semsearch.encoders.fingerprint import fingerprint_of

_HOMES = {
    "Encoded": "semsearch.encoders.encoder",
    "Encoder": "semsearch.encoders.encoder",
    "fingerprint_of": "semsearch.encoders.fingerprint",
    "open_encoder": "semsearch.encoders.encoder",
}

__all__ = ["Encoded", "Encoder", "fingerprint_of", "open_encoder"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
