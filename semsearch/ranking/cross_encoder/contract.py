"""What a cross-encoder needs from whatever computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from semsearch.ranking.cross_encoder.pairs import Features, Pair
    from semsearch.types import Floats


class Scorer(Protocol):
    """Gives every pair of texts its score.

    ``runtime`` is ``torch`` or ``openvino``; ``precision`` is ``float32``, ``bf16`` or ``fp16``.
    """

    @property
    def runtime(self) -> str:
        """What computes."""
        ...

    @property
    def precision(self) -> str:
        """What it computes in."""
        ...

    def score(self, pairs: Sequence[Pair]) -> Floats:
        """The model's own numbers float32 (n,) before any activation. Raises ModelError."""
        ...


class PairRuntime(Protocol):
    """Runs a cross-encoder on one padded batch of pairs. Safe to call from several threads.

    ``workers`` is how many threads may call ``run`` at once to good effect; ``budget`` the number
    of tokens, padding included, that a batch should hold; ``multiple`` what padded lengths are
    rounded up to.
    """

    name: str
    precision: str
    workers: int
    budget: int
    multiple: int

    def run(self, features: Features) -> Floats:
        """Scores float32 (B,). Raises OutOfMemory, and ModelError for any other fault."""
        ...
