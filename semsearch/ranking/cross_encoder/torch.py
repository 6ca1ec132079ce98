"""Cross-encoders on PyTorch, loaded by sentence-transformers.

Only safetensors are read, remote code is never run and nothing is fetched.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semsearch.encoders.runtimes.contract import OutOfMemory
from semsearch.encoders.runtimes.torch import quiet, translated
from semsearch.encoders.tokens import without_surrogates
from semsearch.errors import ModelError
from semsearch.ranking.cross_encoder.tokens_scorer import TokenScorer

if TYPE_CHECKING:
    from semsearch.ranking.cross_encoder.contract import Scorer
    from semsearch.ranking.cross_encoder.folder import CrossConfig
    from semsearch.ranking.cross_encoder.pairs import Features, Pair, PairTokens
    from semsearch.types import Floats

log = logging.getLogger("semsearch")

_DTYPES = {"float32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_SAMPLE = [("is it so?", "So."), ("what", "a longer passage, of " + "many and other words, " * 3)]
"""Pairs of lengths that differ whatever the tokenizer, so that one of them is padded."""

_BATCH = 32
"""Pairs at once of a model that makes its own batches; as in sentence-transformers."""


def load_cross_encoder(config: CrossConfig, device: str, dtype: str = "float32") -> Any:
    """The folder as a ``CrossEncoder`` that gives raw scores. Raises ModelError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from sentence_transformers import CrossEncoder

    folder = config.model.folder
    try:
        with quiet():
            model = CrossEncoder(
                str(folder),
                device=device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True, "dtype": getattr(torch, dtype)},
                max_length=config.max_length,
                activation_fn=torch.nn.Identity(),
            )
    except Exception as exc:  # many kinds, from the library and from what it builds on
        reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise ModelError(f"{folder}: cannot be loaded: {reason}") from exc
    if model.num_labels != 1:
        raise ModelError(f"{folder}: gives {model.num_labels} scores to a pair: it cannot rerank")
    _check_head(model, config)
    return model.eval()


def _check_head(model: Any, config: CrossConfig) -> None:
    """Refuse weights without the head, which the library would make up."""
    from safetensors import safe_open

    transformer = model.transformers_model
    if not type(transformer).__name__.endswith("ForSequenceClassification"):
        return
    stored: set[str] = set()
    for file in config.model.weights:
        with safe_open(file, framework="pt") as tensors:
            stored.update(tensors.keys())
    base = f"{transformer.base_model_prefix}."
    head = [name for name, _ in transformer.named_parameters() if not name.startswith(base)]
    missing = [name for name in head if name not in stored]
    if missing:
        raise ModelError(f"{config.model.folder}: its weights lack the head that scores: {missing}")


def inputs_of(model: Any, tokens: PairTokens, prompt: str) -> tuple[str, ...] | None:
    """The names of the features that the model reads, if ours are the library's; else None."""
    with quiet():
        theirs = model.preprocess(list(_SAMPLE), prompt=prompt or None)
    ours = tokens.batch(tokens.tokenize(_SAMPLE), 1)
    names = tuple(name for name in ours if name in theirs)
    same = all(np.array_equal(ours[name], theirs[name].numpy()) for name in names)
    return names if same and "attention_mask" in names else None


class TorchPairs:
    """Runs a plain cross-encoder on ``device``.

    ``auto`` means fp16 on CUDA and float32 elsewhere. Where fp16 overflows, the batch is computed
    again in float32, and so is every later one.
    """

    name = "torch"
    workers = 1

    def __init__(self, model: Any, names: tuple[str, ...], precision: str) -> None:
        self._model = model
        self._names = names
        self.precision = precision
        self._on_cuda = model.device.type == "cuda"
        self.budget = 65_536 if self._on_cuda else 4_096
        self.multiple = 8 if self._on_cuda else 1
        self._lock = threading.Lock()  # the model's form does not change while it is used

    def run(self, features: Features) -> Floats:
        """See the contract."""
        with self._lock, translated():
            scores = self._scores(features)
            if self.precision == "fp16" and not np.isfinite(scores).all():
                log.warning("fp16 overflows in this cross-encoder: continuing in float32")
                self._model.float()
                self.precision = "float32"
                scores = self._scores(features)
        return scores

    def _scores(self, features: Features) -> Floats:
        import torch

        with torch.inference_mode():
            moved = {name: torch.from_numpy(features[name]) for name in self._names}
            moved = {name: value.to(self._model.device) for name, value in moved.items()}
            found: Floats = self._model(moved)["scores"].float().reshape(-1).cpu().numpy()
        return found


class TextScorer:
    """Scores pairs through ``CrossEncoder.predict``: chats, and decoders that answer yes or no."""

    runtime = "torch"

    def __init__(self, model: Any, precision: str, folder: Path) -> None:
        self._model = model
        self._folder = folder
        self.precision = precision
        self._lock = threading.Lock()

    def score(self, pairs: Sequence[Pair]) -> Floats:
        """See the contract."""
        clean = [[without_surrogates(text) for text in pair] for pair in pairs]
        with self._lock, quiet():
            return self._predicted(clean, _BATCH)

    def _predicted(self, pairs: list[list[str]], batch: int) -> Floats:
        try:
            with translated():
                found = self._model.predict(pairs, batch_size=batch, show_progress_bar=False)
        except OutOfMemory as exc:
            if batch == 1:
                raise ModelError("out of memory on one pair: use a smaller model") from exc
            return self._predicted(pairs, batch // 2)
        except ModelError:
            raise
        except Exception as exc:  # many kinds, from templates and tokenizers
            reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
            raise ModelError(f"{self._folder}: cannot lay out a pair: {reason}") from exc
        return np.asarray(found, dtype=np.float32).reshape(-1)


def torch_scorer(
    config: CrossConfig, tokens: PairTokens | None, precision: str, device: str | None
) -> Scorer:
    """The model on ``device`` (CUDA if there is one). Without ``tokens`` it makes its own."""
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if precision == "auto":
        precision = "fp16" if device.startswith("cuda") else "float32"
    model = load_cross_encoder(config, device, _DTYPES[precision])
    names = None if tokens is None else inputs_of(model, tokens, config.prompt)
    if tokens is None or names is None:
        return TextScorer(model, precision, config.model.folder)
    return TokenScorer(tokens, TorchPairs(model, names, precision))
