"""How many threads the numeric libraries may use, decided in one place.

FAISS searches one query on one thread and many queries on all of them. On macOS, FAISS and PyTorch
each bring an OpenMP runtime of their own and may clash in one process: whoever needs both there
must import torch first.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from semsearch.resources import require_room

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


_THREAD = 16 << 20
"""Bytes for a thread's stack, 8 MiB mostly, and what it begins with."""


def require_room_for_thread() -> None:
    """Raise OutOfMemory where a thread could not begin.

    One whose stack is the last that fits dies before it says that it lives, and whoever started it
    waits for that for ever.
    """
    require_room(_THREAD, "another thread")


class Pool(ThreadPoolExecutor):
    """Threads that start when they are used, if there is room."""

    def submit(self, fn: Any, /, *args: Any) -> Future[Any]:  # type: ignore[override]
        """Have a function called in a thread. Raises OutOfMemory."""
        require_room_for_thread()
        return super().submit(fn, *args)


def thread_count() -> int:
    """``OMP_NUM_THREADS`` if it is a positive number, else the cores this process may run on."""
    wish = os.environ.get("OMP_NUM_THREADS", "")
    if wish.isdigit() and int(wish) > 0:
        return int(wish)
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let NumPy's products run on one thread meanwhile, in the whole process.

    OpenBLAS's threads spin long after a product, while whoever computes beside it needs the cores:
    on 2 of them a product of 0.7 ms took 13.
    """
    limit = _limit()
    limit.enter()
    try:
        yield
    finally:
        limit.leave()


class _Limit:
    """One thread as long as anybody asks for it."""

    def __init__(self, blas: ThreadpoolController) -> None:
        self._blas = blas
        self._lock = threading.Lock()
        self._inside = 0

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limited = self._blas.limit(limits=1)
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limited.restore_original_limits()


@cache
def _limit() -> _Limit:
    import numpy  # noqa: F401, ICN001 - only libraries that are loaded are found
    from threadpoolctl import ThreadpoolController

    return _Limit(ThreadpoolController().select(user_api="blas"))
