"""Texts encoded as an index keeps them: their vectors, the codes of their tokens, passages."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from semsearch.collection.changes import NewPassage
from semsearch.indexing.model import check_directions
from semsearch.indexing.token_vectors import CodeSink

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from semsearch.collection.writer import Writer
    from semsearch.encoders import Encoded, Encoder
    from semsearch.indexing.long_text import Piece
    from semsearch.maxsim import TokenCodec


class Made(NamedTuple):
    """What was computed of texts: their vectors, and the codes of their tokens."""

    encoded: Encoded
    codes: list[NDArray[np.uint8] | None]


def encode(
    encoder: Encoder,
    codec: TokenCodec | None,
    texts: Sequence[str],
    report: Callable[[int], None] | None = None,
) -> Made:
    """Encode texts; with a ``codec`` the codes of their tokens come from the same pass.

    ``report`` is called with the number of texts done since the last call. Raises ModelError for
    vectors that no cosine can be taken of.
    """
    sink = CodeSink(codec, len(texts)) if codec else None
    encoded = encoder.encode_documents(texts, report, sink)
    check_directions(encoded.vectors, texts, encoder.name)
    return Made(encoded, sink.codes if sink else [None] * len(texts))


def new_passages(writer: Writer, hashes: Collection[bytes], made: Made) -> dict[bytes, NewPassage]:
    """By the hash of its text, in the order of ``made``: each as it is to be stored, not placed."""
    encoded, codes = made
    stored = writer.stored(encoded.vectors)
    return {
        h: NewPassage(
            0, 0, h, stored[i], int(encoded.tokens[i]), int(encoded.unknown[i]),
            bool(encoded.truncated[i]), codes[i],
        )
        for i, h in enumerate(hashes)
    }  # fmt: skip


def placed(cut: Sequence[Piece], found: Mapping[bytes, NewPassage]) -> tuple[NewPassage, ...]:
    """The passages of one document where it was cut."""
    return tuple(replace(found[p.text_hash], start=p.span.start, end=p.span.end) for p in cut)
