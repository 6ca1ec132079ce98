"""The reranker ``self``: late interaction over the token vectors of the index's own encoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from semsearch.maxsim import Codes, TokenCodec
from semsearch.store.token_files import spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from semsearch.encoders import Encoder
    from semsearch.types import Bools, Candidates, Floats, Ints

SELF = "self"

_MOST_KEPT = 20_000  # passages whose codes were computed; 3 kB each for 200 tokens

log = logging.getLogger("semsearch")

CodesOf: TypeAlias = "Callable[[Ints], tuple[Bools, Codes]]"
"""The stored codes of passages by their number: which have some, bool (m,), and theirs."""

TextsOf: TypeAlias = "Callable[[Sequence[int]], Mapping[int, str]]"
"""The texts of passages by their number."""


class SelfReranker:
    """A Reranker (see ``semsearch.ranking.contract``): MaxSim of query and passage tokens.

    Codes of passages come from ``codes_of``; those that are not stored are computed from the texts
    that ``texts_of`` gives, by ``encoder``, and kept in ``computed`` by the passage's number.
    ``query_tokens`` holds, for each query, its tokens' unit vectors, float32 (t, token_dim).
    """

    name = SELF

    def __init__(
        self,
        encoder: Encoder,
        query_tokens: Sequence[Floats],
        codes_of: CodesOf,
        texts_of: TextsOf,
        computed: dict[int, NDArray[np.uint8]] | None = None,
    ) -> None:
        self._encoder = encoder
        self._codec = TokenCodec(encoder.token_dim)
        self._query_tokens = query_tokens
        self._codes_of = codes_of
        self._texts_of = texts_of
        self._computed = {} if computed is None else computed

    def score(self, queries: Sequence[str], candidates: Candidates) -> Floats:
        """A score for each candidate, float32 (Q, k); -inf where padded. Raises as the contract."""
        scores = np.full(candidates.ids.shape, -np.inf, np.float32)
        vids = np.unique(candidates.ids[candidates.ids >= 0])
        codes = self._codes(vids)
        starts = np.cumsum(codes.counts) - codes.counts
        for number in range(len(queries)):
            real = np.flatnonzero(candidates.ids[number] >= 0)
            place = np.searchsorted(vids, candidates.ids[number, real])
            counts = codes.counts[place]
            some = Codes(codes.codes[spread(starts[place], counts)], counts)
            tokens = self._codec.project(self._query_tokens[number])
            scores[number, real] = self._codec.scores(tokens, some)
        return scores

    def _codes(self, vids: Ints) -> Codes:
        """The codes of passages, each once: those stored, and what is computed for the others."""
        there, stored = self._codes_of(vids)
        if there.all():
            return stored
        made = self._made(vids[~there].tolist())
        ends = np.cumsum(stored.counts)
        parts = [
            stored.codes[end - count : end] if present else made[vid]
            for vid, present, end, count in zip(
                vids.tolist(), there.tolist(), ends.tolist(), stored.counts.tolist(), strict=True
            )
        ]
        counts = np.array([len(part) for part in parts], np.int64)
        return Codes(np.concatenate(parts), counts)

    def _made(self, vids: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
        """The codes of passages that have none stored: what is kept of them, and new ones."""
        kept = {vid: self._computed.get(vid) for vid in vids}
        found = {vid: codes for vid, codes in kept.items() if codes is not None}
        new = self._compute([vid for vid in vids if vid not in found])
        if len(self._computed) + len(new) > _MOST_KEPT:
            self._computed.clear()
        self._computed.update(new)
        return found | new

    def _compute(self, vids: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
        """The codes of passages, as indexing would have made them."""
        made: dict[int, NDArray[np.uint8]] = {}
        if not vids:
            return made
        log.warning(
            "passages without token vectors: theirs are computed for each query, which takes its"
            " time; `semsearch compact --token-vectors` keeps them, --rerank none does without"
        )
        by_text: dict[str, list[int]] = {}
        for vid, text in self._texts_of(vids).items():
            by_text.setdefault(text, []).append(vid)
        texts = list(by_text)

        def keep(positions: Ints, lengths: Ints, rows: Floats) -> None:
            found = self._codec.encode(rows, lengths)
            parts = np.split(found.codes, np.cumsum(found.counts)[:-1])
            for position, part in zip(positions.tolist(), parts, strict=True):
                made.update(dict.fromkeys(by_text[texts[position]], part))

        self._encoder.encode_documents(texts, token_sink=keep)
        return made
