"""Scores from tokens: pairs of similar length together, on either runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from semsearch.encoders.batching import batches
from semsearch.encoders.runtimes.contract import OutOfMemory
from semsearch.errors import ModelError

if TYPE_CHECKING:
    from semsearch.ranking.cross_encoder.contract import PairRuntime
    from semsearch.ranking.cross_encoder.pairs import Features, Pair, PairTokens, Row
    from semsearch.types import Floats

_WINDOW = 4_096
"""Pairs that are tokenized and sorted by length together: whole queries' candidates, many times."""


class TokenScorer:
    """Scores pairs whose tokens alone decide. Safe to call from several threads."""

    def __init__(self, tokens: PairTokens, runtime: PairRuntime) -> None:
        self._tokens = tokens
        self._runtime = runtime

    @property
    def runtime(self) -> str:
        """``openvino`` or ``torch``."""
        return self._runtime.name

    @property
    def precision(self) -> str:
        """As it runs; fp16 that overflowed is float32."""
        return self._runtime.precision

    def score(self, pairs: Sequence[Pair]) -> Floats:
        """See the contract."""
        scores = np.empty(len(pairs), dtype=np.float32)
        for start in range(0, len(pairs), _WINDOW):
            rows = self._tokens.tokenize(pairs[start : start + _WINDOW])
            for group, found in self._window(rows):
                scores[start + np.asarray(group)] = found
        return scores

    def _window(self, rows: list[Row]) -> Iterator[tuple[list[int], Floats]]:
        """Groups of positions in ``rows`` with their scores, as they are finished."""
        runtime = self._runtime

        def one(group: list[int]) -> Floats:
            features = self._tokens.batch([rows[i] for i in group], runtime.multiple)
            return _halving(runtime, features)

        lengths = [len(row.ids) for row in rows]
        # Few pairs are shared out among the workers, too.
        budget = min(runtime.budget, max(1, sum(lengths) // runtime.workers))
        groups = list(batches(lengths, budget, runtime.multiple))
        if runtime.workers == 1 or len(groups) == 1:
            for group in groups:
                yield group, one(group)
            return
        pool = ThreadPoolExecutor(runtime.workers, "rerank")
        try:
            yield from zip(groups, pool.map(one, groups), strict=True)
        finally:  # also when interrupted: what has not started never does
            pool.shutdown(cancel_futures=True)


def _halving(runtime: PairRuntime, features: Features) -> Floats:
    """Run a batch, in halves and halves of halves where the device has no room for it."""
    try:
        return runtime.run(features)
    except OutOfMemory as exc:
        size, width = features["input_ids"].shape
        if size == 1:
            raise ModelError(
                f"out of memory on one pair of {width} tokens ({runtime.name}, "
                f"{runtime.precision}): use a smaller model or a lower maximum length"
            ) from exc
    parts = slice(0, size // 2), slice(size // 2, None)
    return np.concatenate(
        [_halving(runtime, {k: v[part] for k, v in features.items()}) for part in parts]
    )
