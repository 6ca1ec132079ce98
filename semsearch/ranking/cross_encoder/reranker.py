"""The reranker: a cross-encoder's scores for the candidates of a search."""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

from semsearch.encoders.fingerprint import tokenizer_digest
from semsearch.encoders.resolve import resolve_cross_encoder
from semsearch.encoders.runtimes.choose import RuntimeName, prefers_openvino
from semsearch.errors import Corrupt, MissingExtra, ModelError, UsageError
from semsearch.ranking.cross_encoder.contract import Scorer
from semsearch.ranking.cross_encoder.folder import CrossConfig, read_cross_folder
from semsearch.ranking.cross_encoder.pairs import PairTokens
from semsearch.ranking.cross_encoder.tokens_scorer import TokenScorer

if TYPE_CHECKING:
    from semsearch.types import Candidates, Floats

log = logging.getLogger("semsearch")

PairPrecision: TypeAlias = Literal["auto", "float32", "bf16", "fp16"]
TextsOf: TypeAlias = Callable[[Sequence[int]], Mapping[int, str]]
"""The texts of passages by their number."""


class CrossEncoderReranker:
    """A cross-encoder as a Reranker (see ``semsearch.ranking.contract``).

    Scores are the model's own numbers before any activation: an activation keeps their order but
    squeezes the best ones together, which would be lost when scores are blended. Safe to call from
    several threads; the model is loaded with the first pair.
    """

    def __init__(
        self, name: str, config: CrossConfig, texts_of: TextsOf, start: Callable[[], Scorer]
    ) -> None:
        self.name = name
        self.folder = config.model.folder
        self.max_length = config.max_length
        self._texts_of = texts_of
        self._start = start
        self._lock = threading.Lock()
        self._scorer: Scorer | None = None

    @property
    def runtime(self) -> str:
        """``openvino`` or ``torch``, as it runs."""
        return self._running().runtime

    @property
    def precision(self) -> str:
        """``float32``, ``bf16`` or ``fp16``, as it runs."""
        return self._running().precision

    def score(self, queries: Sequence[str], candidates: Candidates) -> Floats:
        """See the contract: float32 (Q, k), -inf where padded. Raises ModelError, Corrupt."""
        scores = np.full(candidates.ids.shape, -np.inf, dtype=np.float32)
        rows, columns = np.nonzero(candidates.ids >= 0)
        vids = candidates.ids[rows, columns].tolist()
        if not vids:
            return scores
        texts = self._texts_of(sorted(set(vids)))
        if gone := [vid for vid in vids if vid not in texts]:
            raise Corrupt(f"passage {gone[0]} is not in the index: run 'semsearch check'")
        pairs = [(queries[row], texts[vid]) for row, vid in zip(rows.tolist(), vids, strict=True)]
        found = self._running().score(pairs)
        if not np.isfinite(found).all():
            raise ModelError(
                f"{self.folder}: the model gives scores that are no numbers in {self.precision}: "
                "try precision float32"
            )
        scores[rows, columns] = found
        return scores

    def _running(self) -> Scorer:
        with self._lock:
            if self._scorer is None:
                self._scorer = self._start()
            return self._scorer


def open_cross_encoder(
    model: str | Path,
    texts_of: TextsOf,
    *,
    runtime: RuntimeName = "auto",
    precision: PairPrecision = "auto",
    device: str | None = None,
    max_length: int | None = None,
    local_only: bool = False,
) -> CrossEncoderReranker:
    """Open a sentence-transformers cross-encoder by name or folder; nothing heavy is loaded yet.

    ``texts_of`` gives the passages' texts. ``runtime`` ``auto`` is torch where an NVIDIA device (or
    ``device``) is there or the model needs it, else OpenVINO, else torch. ``max_length`` lowers
    the number of tokens of a pair that are read. With ``local_only`` nothing is fetched. Raises
    NotFound, ModelError and UsageError.
    """
    if runtime not in get_args(RuntimeName) or precision not in get_args(PairPrecision):
        raise UsageError(f"a cross-encoder has no runtime {runtime!r} or precision {precision!r}")
    if runtime == "openvino" and device not in (None, "cpu"):
        raise UsageError(f"the openvino runtime computes on the CPU, not on {device!r}: use torch")
    if max_length is not None and max_length < 1:
        raise UsageError(f"a maximum length of {max_length} tokens leaves nothing to read")
    config = read_cross_folder(resolve_cross_encoder(model, local_only=local_only))
    if runtime == "openvino" and not config.plain:
        raise UsageError(f"{config.model.folder}: this kind of cross-encoder needs runtime torch")
    if max_length is not None:
        config = replace(config, max_length=min(config.max_length, max_length))
    tokenizer_digest(config.model)  # a folder without a tokenizer is refused now, not at a search
    return CrossEncoderReranker(
        str(model), config, texts_of, lambda: _started(config, runtime, precision, device)
    )


def _started(
    config: CrossConfig, runtime: RuntimeName, precision: PairPrecision, device: str | None
) -> Scorer:
    tokens = PairTokens(config) if config.plain else None
    wanted = runtime == "openvino" or (runtime == "auto" and prefers_openvino(device))
    if tokens is not None and wanted:
        try:
            return _openvino(config, tokens, precision)
        except (ImportError, ModelError) as exc:
            if runtime == "openvino":
                raise
            log.warning("reranking with torch, which is slower here: %s", exc)
    from semsearch.ranking.cross_encoder.torch import torch_scorer

    return torch_scorer(config, tokens, precision, device)


def _openvino(config: CrossConfig, tokens: PairTokens, precision: PairPrecision) -> Scorer:
    if importlib.util.find_spec("openvino") is None:
        raise MissingExtra("openvino", "cpu", "the openvino runtime")
    from semsearch.ranking.cross_encoder.openvino import OpenVinoPairs

    return TokenScorer(tokens, OpenVinoPairs(config, tokens, precision))
