"""A million realistic vectors in seconds: static embeddings distilled from the default model.

Each token of the vocabulary is encoded alone; a text's vector is the mean of its tokens' vectors,
rare tokens weighing more (w = a / (a + p), Arora et al., "A Simple but Tough-to-Beat Baseline for
Sentence Embeddings", 2017; the distillation is that of Model2Vec), less the mean of all texts. The
texts are windows of real ones, so neighbours are what they are in real collections: texts that
share words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semsearch.encoders import Encoder, open_encoder

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints

_RARE = 1e-3
_SHORTEST, _LONGEST = 6, 48
_BLOCK = 16_384
_SEED = 11


@dataclass(frozen=True)
class StaticModel:
    """``table`` float32 (vocabulary, dim): a token's vector times its weight; ``mean`` (dim,)."""

    encoder: Encoder
    table: Floats
    mean: Floats

    def encode(self, texts: Sequence[str]) -> Floats:
        """Unit vectors float32 (n, dim)."""
        rows = [row.ids[1:-1] for row in self.encoder.tokens.tokenize(texts)]
        lengths = np.array([len(row) for row in rows])
        return self.pooled(np.concatenate(rows), np.concatenate([[0], np.cumsum(lengths)[:-1]]))

    def pooled(self, tokens: Ints, starts: Ints) -> Floats:
        """Unit vectors of the bags of ``tokens`` (m,) that begin at ``starts`` (n,)."""
        import torch

        bags = torch.nn.functional.embedding_bag(
            torch.from_numpy(tokens), torch.from_numpy(self.table), torch.from_numpy(starts)
        ).numpy()
        vectors = bags / np.maximum(np.linalg.norm(bags, axis=1, keepdims=True), 1e-9) - self.mean
        unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def distil(model: str, stream: Ints, cache: Path) -> StaticModel:
    """The static model, weighted by how often tokens are in ``stream`` (int64 (m,)).

    The tokens' own vectors are kept in the folder ``cache``: they take a minute.
    """
    encoder = open_encoder(model)
    path = cache / f"tokens-{encoder.fingerprint[:12]}.npy"
    if not path.is_file():
        size = encoder.tokens._tokenizer.get_vocab_size()
        words = [encoder.tokens._tokenizer.decode([i]) or "." for i in range(size)]
        cache.mkdir(parents=True, exist_ok=True)
        np.save(path, encoder.encode_documents(words).vectors)
    vectors = np.load(path)
    share = np.bincount(stream, minlength=len(vectors)) / len(stream)
    table = (vectors * (_RARE / (_RARE + share))[:, None]).astype(np.float32)
    model_ = StaticModel(encoder, table, np.zeros(table.shape[1], np.float32))
    sample = next(iter(_windows(stream, _BLOCK, _SEED)))
    return StaticModel(encoder, table, model_.pooled(*sample).mean(axis=0))


def token_stream(encoder: Encoder, texts: Sequence[str]) -> Ints:
    """The tokens of all texts, one after the other, int64 (m,)."""
    tokenizer = encoder.tokens._tokenizer
    rows = [row.ids for row in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
    return np.concatenate([np.asarray(row, np.int64) for row in rows])


def blocks(model: StaticModel, stream: Ints, n: int, seed: int = _SEED) -> Iterator[Floats]:
    """``n`` unit vectors of random windows of the stream, in blocks float32 (m, dim)."""
    for tokens, starts in _windows(stream, n, seed):
        yield model.pooled(tokens, starts)


def _windows(stream: Ints, n: int, seed: int) -> Iterator[tuple[Ints, Ints]]:
    random = np.random.default_rng(seed)
    for start in range(0, n, _BLOCK):
        m = min(_BLOCK, n - start)
        lengths = random.integers(_SHORTEST, _LONGEST + 1, m)
        first = random.integers(0, len(stream) - _LONGEST, m)
        offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        positions = np.repeat(first - offsets, lengths) + np.arange(lengths.sum())
        yield stream[positions], offsets


def checksum(stream: Ints) -> str:
    """SHA-256 of what the vectors are made from."""
    return hashlib.sha256(stream.tobytes()).hexdigest()
