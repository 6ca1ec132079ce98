"""Queries as the encoder reads them: vectors, token vectors, and how much of them it knows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from semsearch.errors import Mismatch

if TYPE_CHECKING:
    from semsearch.encoders import Encoder
    from semsearch.store.catalog import EncoderRow
    from semsearch.types import Floats, Ints

UNREADABLE = 0.10
"""Above this share of unknown tokens an encoder does not read the language of a text."""

log = logging.getLogger("semsearch")


@dataclass(frozen=True, slots=True)
class Questions:
    """Q encoded queries.

    ``vectors`` float32 (Q, dim) of unit length; ``tokens`` for each query its tokens' unit vectors
    float32 (t, token_dim); ``known`` float32 (Q,), the share of its tokens that the vocabulary has.
    ``fingerprint`` is that of the model that read them.
    """

    vectors: Floats
    tokens: tuple[Floats, ...]
    known: Floats
    fingerprint: str

    def some(self, which: Sequence[int]) -> Questions:
        """Those at these positions."""
        tokens = tuple(self.tokens[number] for number in which)
        return Questions(self.vectors[which], tokens, self.known[which], self.fingerprint)


def require_model(recorded: EncoderRow | None, encoder: Encoder) -> None:
    """Raise Mismatch unless ``encoder`` made the vectors of an index, if it has any."""
    if recorded is not None and recorded.fingerprint != encoder.fingerprint:
        raise Mismatch(
            f"the index was made by {recorded.name} ({recorded.fingerprint[:12]}), not by"
            f" {encoder.name} ({encoder.fingerprint[:12]}): use that model, or make a new index"
            " with -i"
        )


def encode_questions(encoder: Encoder, texts: Sequence[str]) -> Questions:
    """Encode queries once, for all that is done with them. Raises ModelError.

    One warning where the encoder cannot read them.
    """
    places: dict[str, list[int]] = {}
    for number, text in enumerate(texts):
        places.setdefault(text, []).append(number)
    tokens = [np.zeros((0, encoder.token_dim), np.float32) for _ in texts]

    def keep(positions: Ints, lengths: Ints, rows: Floats) -> None:
        ends = np.cumsum(lengths).tolist()
        for position, end, length in zip(positions.tolist(), ends, lengths.tolist(), strict=True):
            for number in places[texts[position]]:
                tokens[number] = rows[end - length : end]

    encoded = encoder.encode_queries(texts, token_sink=keep)
    unknown = encoded.unknown / np.maximum(encoded.tokens, 1)
    share = encoded.unknown.sum() / max(int(encoded.tokens.sum()), 1)
    if share > UNREADABLE:
        log.warning(
            "%s does not know %.0f %% of the tokens of what is asked: it cannot read the language"
            " well, so its vectors count less than the words",
            encoder.name,
            100 * share,
        )
    known = (1 - unknown).astype(np.float32)
    return Questions(encoded.vectors, tuple(tokens), known, encoder.fingerprint)
