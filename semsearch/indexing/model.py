"""An index goes on with the model that it was made by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.errors import Mismatch

if TYPE_CHECKING:
    from semsearch.collection.writer import Writer
    from semsearch.encoders import Encoder


def require_same_model(writer: Writer, encoder: Encoder) -> None:
    """Raise Mismatch unless ``encoder`` made the vectors of the index, if it has any."""
    recorded = writer.snapshot.encoder
    if recorded is not None and recorded.fingerprint != encoder.fingerprint:
        raise Mismatch(
            f"{writer.layout.folder}: the index was made by {recorded.name}"
            f" ({recorded.fingerprint[:12]}), not by {encoder.name} ({encoder.fingerprint[:12]}):"
            " leave out -m, or make a new index with -i"
        )
