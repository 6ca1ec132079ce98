"""Many documents with plausible vectors, without the hours of encoding them.

Each document is two real sentences and its number. Its vector is made from the real vectors of the
two sentences: their sum, plus Gaussian noise, brought to unit length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from semsearch.encoders import Encoder
from semsearch.encoders.encoder import Encoded
from semsearch.types import Document

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from semsearch.encoders import TokenSink
    from semsearch.types import Floats, Ints

NOISE = 0.5
"""Expected length of the noise added to the sum of two unit vectors."""

BUCKETS = 100
_SEED = 7


class Synthetic:
    """``rows`` documents from real ``sentences`` and their unit vectors ``(n, dim)``."""

    def __init__(self, sentences: Sequence[str], vectors: Floats, rows: int) -> None:
        self.sentences = sentences
        self.rows = rows
        self._vectors = vectors
        shape = (rows, 2)
        self._pairs = np.random.default_rng(_SEED).integers(0, len(sentences), shape, np.int32)

    def documents(self) -> Iterator[Document]:
        """Documents with ``bucket`` (0 to 99, each keeps 1 %) and ``year`` to filter by."""
        for row, (first, second) in enumerate(self._pairs.tolist()):
            text = f"{row} {self.sentences[first]} {self.sentences[second]}"
            metadata = {"bucket": row % BUCKETS, "year": 1980 + row % 45}
            yield Document(f"d{row}", text, metadata=metadata)

    def vectors(self, rows: Ints) -> Floats:
        """Unit vectors float32 ``(len(rows), dim)``; the same rows give the same vectors."""
        first, second = self._pairs[rows].T
        noise = np.random.default_rng([_SEED, int(rows[0])]).standard_normal(
            (len(rows), self._vectors.shape[1]), np.float32
        )
        noise *= NOISE / np.sqrt(self._vectors.shape[1])
        mixed: NDArray[np.float32] = self._vectors[first] + self._vectors[second] + noise
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        return mixed


class SyntheticEncoder(Encoder):
    """The real encoder, except that synthetic documents get their vectors without the model."""

    def __init__(self, real: Encoder, synthetic: Synthetic) -> None:
        super().__init__(real.name, real.config, real._start)
        self._synthetic = synthetic

    def encode_documents(
        self,
        texts: Sequence[str],
        progress: Callable[[int], None] | None = None,
        token_sink: TokenSink | None = None,
    ) -> Encoded:
        """As the real one does, but without any token vectors."""
        rows = np.array([int(text.split(" ", 1)[0]) for text in texts], np.int64)
        tokens = np.array([len(text) // 5 for text in texts], np.int64)
        none = np.zeros(len(rows), np.int64)
        if token_sink is not None:
            token_sink(np.arange(len(rows)), none, np.zeros((0, self.token_dim), np.float32))
        return Encoded(self._synthetic.vectors(rows), tokens, none.astype(np.bool_), none)
