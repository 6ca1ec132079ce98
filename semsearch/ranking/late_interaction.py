"""The reranker ``self``: late interaction over the token vectors of the index's own encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from semsearch.maxsim import Codes, TokenCodec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from semsearch.encoders import Encoder
    from semsearch.types import Bools, Candidates, Floats, Ints

SELF = "self"

CodesOf: TypeAlias = "Callable[[Ints], tuple[Bools, Codes]]"
"""The stored codes of passages by their number: which have some, bool (m,), and theirs."""

TextsOf: TypeAlias = "Callable[[Sequence[int]], Mapping[int, str]]"
"""The texts of passages by their number."""


class SelfReranker:
    """A Reranker (see ``semsearch.ranking.contract``): MaxSim of query and passage tokens.

    Codes of passages come from ``codes_of``; those that are not stored are computed from the texts
    that ``texts_of`` gives, by ``encoder``. ``query_tokens`` holds, for each query, its tokens'
    unit vectors, float32 (t, token_dim).
    """

    name = SELF

    def __init__(
        self,
        encoder: Encoder,
        query_tokens: Sequence[Floats],
        codes_of: CodesOf,
        texts_of: TextsOf,
    ) -> None:
        self._encoder = encoder
        self._codec = TokenCodec(encoder.token_dim)
        self._query_tokens = query_tokens
        self._codes_of = codes_of
        self._texts_of = texts_of

    def score(self, queries: Sequence[str], candidates: Candidates) -> Floats:
        """A score for each candidate, float32 (Q, k); -inf where padded. Raises as the contract."""
        scores = np.full(candidates.ids.shape, -np.inf, np.float32)
        for number in range(len(queries)):
            real = np.flatnonzero(candidates.ids[number] >= 0)
            tokens = self._codec.project(self._query_tokens[number])
            vids = candidates.ids[number, real]
            scores[number, real] = self._scores(tokens, vids)
        return scores

    def _scores(self, tokens: Floats, vids: Ints) -> Floats:
        there, codes = self._codes_of(vids)
        if there.all():
            return self._codec.scores(tokens, codes)
        scores = np.empty(len(vids), np.float32)
        present = Codes(codes.codes, codes.counts[there])
        scores[there] = self._codec.scores(tokens, present)
        scores[~there] = self._codec.scores(tokens, self._computed(vids[~there]))
        return scores

    def _computed(self, vids: Ints) -> Codes:
        """The codes of passages that have none stored, as indexing would have made them."""
        texts = self._texts_of(vids.tolist())
        unique = list(dict.fromkeys(texts.values()))
        made: dict[int, NDArray[np.uint8]] = {}

        def keep(positions: Ints, lengths: Ints, rows: Floats) -> None:
            found = self._codec.encode(rows, lengths)
            ends = np.cumsum(found.counts)
            for position, start, end in zip(
                positions.tolist(), (ends - found.counts).tolist(), ends.tolist(), strict=True
            ):
                made[position] = found.codes[start:end]

        self._encoder.encode_documents(unique, token_sink=keep)
        place = {text: position for position, text in enumerate(unique)}
        parts = [made[place[texts[vid]]] for vid in vids.tolist()]
        counts = np.array([len(part) for part in parts], np.int64)
        return Codes(np.concatenate(parts), counts)
