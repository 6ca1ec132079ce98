"""What is asked of a model: an index goes on with its own, and vectors have a direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from semsearch.errors import Mismatch, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from semsearch.collection.writer import Writer
    from semsearch.encoders import Encoder
    from semsearch.types import Floats


def require_same_model(writer: Writer, encoder: Encoder) -> None:
    """Raise Mismatch unless ``encoder`` made the vectors of the index, if it has any."""
    recorded = writer.snapshot.encoder
    if recorded is not None and recorded.fingerprint != encoder.fingerprint:
        raise Mismatch(
            f"{writer.layout.folder}: the index was made by {recorded.name}"
            f" ({recorded.fingerprint[:12]}), not by {encoder.name} ({encoder.fingerprint[:12]}):"
            " leave out -m, or make a new index with -i"
        )


def check_directions(vectors: Floats, texts: Sequence[str], model: str) -> None:
    """Raise ModelError for vectors that no cosine can be taken of."""
    lengths = np.einsum("ij,ij->i", vectors, vectors)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise ModelError(
            f"{model}: gives a vector without a direction (NaN, infinite or zero) for the text"
            f" {texts[bad[0]][:60]!r}: nothing of its window was stored"
        )
