"""What an encoder needs from whatever computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from semsearch.types import Bools, Floats, Ints


class OutOfMemory(Exception):
    """The device had no room for a batch; a smaller one may fit."""


class Batch(NamedTuple):
    """Padded texts: ``ids`` and ``mask`` int64 (B, L).

    ``keep`` bool (B, L) marks the tokens whose vectors are asked for, none of them padding.
    """

    ids: Ints
    mask: Ints
    keep: Bools | None = None


class Output(NamedTuple):
    """What a batch gives: ``vectors`` float32 (B, width), not normalised.

    ``tokens`` float32 or float16 (n, token width) are the vectors of its n kept tokens, text after
    text, of unit length (or zero), and None where none were asked for.
    """

    vectors: Floats
    tokens: NDArray[np.floating] | None = None


class Runtime(Protocol):
    """Runs a model's whole module chain on one padded batch.

    ``name`` is ``torch`` or ``openvino``; ``precision`` is ``float32``, ``bf16``, ``fp16`` or
    ``int8``; ``workers`` says how many threads may call ``run`` at once to good effect; ``budget``
    is the number of tokens, padding included, that a batch should hold; ``multiple`` is what padded
    lengths are rounded up to.
    """

    name: str
    precision: str
    workers: int
    budget: int
    multiple: int

    def run(
        self,
        ids: Ints,
        mask: Ints,
        keep: Bools | None = None,
        *,
        prompt_length: int = 0,
        many: bool = False,
    ) -> Output:
        """The vectors of one batch, given as the parts of a Batch.

        ``prompt_length`` is how many leading tokens belong to the prompt, for models that leave
        them out of pooling; ``many`` says that this is one batch of many. Raises
        OutOfMemory, and ModelError for any other fault.
        """
        ...


@runtime_checkable
class Streaming(Runtime, Protocol):
    """A runtime that has later batches under way while it hands out earlier ones."""

    def stream(self, batches: Iterable[Batch], *, prompt_length: int = 0) -> Iterator[Output]:
        """What ``run`` gives for each batch, in order.

        ``batches`` is read a few ahead of what is given out; a batch that does not fit is split.
        Raises ModelError.
        """
        ...
