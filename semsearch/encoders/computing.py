"""Batches through a runtime, several under way at once, their outputs in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from semsearch.encoders.batching import run_halving
from semsearch.encoders.runtimes.contract import Batch, Output, Runtime, Streaming
from semsearch.threads import Pool

if TYPE_CHECKING:
    from semsearch.types import Ints

_AHEAD = 4
"""Batches for each of the runtime's workers that may wait to be taken, with their vectors."""


class Work(NamedTuple):
    """A batch, and the positions int64 (B,) that its texts have in the input."""

    at: Ints
    batch: Batch


def computed(
    runtime: Runtime, windows: Iterable[Callable[[], Iterator[Work]]], prompt_length: int
) -> Iterator[tuple[Work, Output]]:
    """Every batch with its output, in order.

    ``windows`` each make their batches when they are called, so that what a runtime learns about
    its room by then is heeded; ``prompt_length`` is the contract's. Raises ModelError.
    """
    if isinstance(runtime, Streaming):
        yield from _streamed(runtime, windows, prompt_length)
        return
    for window in windows:
        yield from _window(runtime, list(window()), prompt_length)


def _streamed(
    runtime: Streaming, windows: Iterable[Callable[[], Iterator[Work]]], prompt_length: int
) -> Iterator[tuple[Work, Output]]:
    """Every window's batches in one stream: the device need not wait between windows."""
    under_way: deque[Work] = deque()

    def prepared() -> Iterator[Batch]:
        for window in windows:
            for work in window():
                under_way.append(work)
                yield work.batch

    for output in runtime.stream(prepared(), prompt_length=prompt_length):
        yield under_way.popleft(), output


def _window(
    runtime: Runtime, works: list[Work], prompt_length: int
) -> Iterator[tuple[Work, Output]]:
    many = len(works) > 1

    def one(work: Work) -> Output:
        return run_halving(runtime, *work.batch, prompt_length=prompt_length, many=many)

    if runtime.workers == 1 or not many:
        for work in works:
            yield work, one(work)
        return
    pool = Pool(runtime.workers, "encode")
    flying: deque[tuple[Work, Future[Output]]] = deque()
    try:
        for work in works:
            flying.append((work, pool.submit(one, work)))
            if len(flying) > _AHEAD * runtime.workers:
                done, future = flying.popleft()
                yield done, future.result()
        while flying:
            done, future = flying.popleft()
            yield done, future.result()
    finally:  # also when interrupted: what has not started never does
        pool.shutdown(cancel_futures=True)
