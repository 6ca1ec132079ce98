"""One process for each of several devices, behind the contract of one runtime.

The texts are tokenized here; batches go to the devices in turn and their vectors come back in
order. Each process runs a TorchRuntime, and works ahead as that does.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, Any

from semsearch.encoders.runtimes.contract import Batch, Output
from semsearch.encoders.runtimes.torch import TorchRuntime
from semsearch.errors import ModelError, SemsearchError

if TYPE_CHECKING:
    from semsearch.encoders.folder import ModelConfig
    from semsearch.types import Bools, Ints

_AHEAD = 4
"""Batches that a device has before the first of their vectors is waited for."""

_PATIENCE = 10.0
"""Seconds of computing on the first device, about what starting the processes takes."""

_LEAST_BUDGET = 8_192


class DevicesRuntime:
    """Runs on every one of ``devices`` (names as TorchRuntime has them), a process each.

    Single batches run in this process on the first device, and so do streams until they took
    ``patience`` seconds in all: a short job does not wait for processes to start. They end with
    this one, however it ends. ``stream`` raises ModelError when one of them fails or dies.
    """

    name = "torch"
    workers = 1

    def __init__(
        self,
        config: ModelConfig,
        precision: str,
        devices: Sequence[str],
        *,
        patience: float = _PATIENCE,
    ) -> None:
        self._config = config
        self._devices = list(devices)
        self._patience = patience
        self._local = TorchRuntime(config, precision, self._devices[0])
        self.precision = self._local.precision
        # A window of texts is to have a batch for every device.
        self.budget = max(_LEAST_BUDGET, self._local.budget // len(self._devices))
        self.multiple = self._local.multiple
        self._workers: list[_Worker] = []
        self._lock = threading.RLock()

    def run(
        self,
        ids: Ints,
        mask: Ints,
        keep: Bools | None = None,
        *,
        prompt_length: int = 0,
        many: bool = False,
    ) -> Output:
        """See the contract: on the first device."""
        return self._local.run(ids, mask, keep, prompt_length=prompt_length, many=many)

    def stream(self, batches: Iterable[Batch], *, prompt_length: int = 0) -> Iterator[Output]:
        """See the contract; one stream at a time."""
        rest = iter(batches)
        with self._lock:
            yield from self._local.stream(self._first_of(rest), prompt_length=prompt_length)
            for one in rest:
                try:
                    yield from self._spread(chain([one], rest), prompt_length)
                except BaseException:  # also when the stream is left before its end
                    self.close()
                    raise

    def _first_of(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Batches for as long as patience lasts."""
        while self._patience > 0 and (batch := next(batches, None)) is not None:
            began = time.monotonic()
            yield batch
            self._patience -= time.monotonic() - began

    def close(self) -> None:
        """End the processes; the next long stream starts new ones."""
        for worker in self._workers:
            worker.stop()
        self._workers = []

    def _spread(self, batches: Iterable[Batch], prompt_length: int) -> Iterator[Output]:
        if not self._workers:
            order = self._config, self._local.precision
            self._workers = [_Worker(*order, device) for device in self._devices]
        flying: deque[_Worker] = deque()
        for worker, batch in zip(cycle(self._workers), batches, strict=False):
            worker.send(_Task(batch, prompt_length))
            flying.append(worker)
            if len(flying) >= _AHEAD * len(self._workers):
                yield self._received(flying.popleft())
        for worker in self._workers:
            worker.send(None)
        while flying:
            yield self._received(flying.popleft())

    def _received(self, worker: _Worker) -> Output:
        done = worker.receive()
        self.budget = min(self.budget, done.budget)
        self.precision = done.precision
        return done.output


@dataclass(frozen=True, slots=True)
class _Task:
    """What a process is sent; None after it ends a stream."""

    batch: Batch
    prompt_length: int


@dataclass(frozen=True, slots=True)
class _Done:
    """What a process answers, with its settings as they are by now."""

    output: Output
    budget: int
    precision: str


class _Worker:
    """A process that computes on one device, as it is seen from here.

    It is no child of multiprocessing's, which would run the user's own main module in it again.
    """

    def __init__(self, config: ModelConfig, precision: str, device: str) -> None:
        self._device = device
        self._pipe, theirs = Pipe()
        code = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            f"from {__name__} import serve; serve({theirs.fileno()})"
        )
        # In a session of its own Ctrl-C does not reach it; the end of the pipe does.
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, on this file
            [sys.executable, "-c", code], pass_fds=[theirs.fileno()], start_new_session=True
        )
        theirs.close()
        self.send((config, precision, device))

    def send(self, what: object) -> None:
        with self._death_told():
            self._pipe.send(what)

    def receive(self) -> _Done:
        with self._death_told():
            answer = self._pipe.recv()
        if not isinstance(answer, _Done):
            raise ModelError(f"on {self._device}: {answer}")
        return answer

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._pipe.close()

    @contextlib.contextmanager
    def _death_told(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as exc:
            code = self._process.wait(timeout=10)
            raise ModelError(
                f"the process that computes on {self._device} died (exit code {code}): run again,"
                " or choose one device with CUDA_VISIBLE_DEVICES"
            ) from exc


def serve(descriptor: int) -> None:
    """The life of a process: streams of batches from a pipe, until the pipe ends."""
    pipe: Connection[Any, Any] = Connection(descriptor)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_unload, args=(pipe, inbox), daemon=True).start()
    try:
        runtime = TorchRuntime(*inbox.get())
        while True:
            first = inbox.get()
            tasks = chain([first], iter(inbox.get, None)) if first is not None else ()
            batches = (task.batch for task in tasks)
            length = 0 if first is None else first.prompt_length
            for output in runtime.stream(batches, prompt_length=length):
                pipe.send(_Done(output, runtime.budget, runtime.precision))
    except SemsearchError as exc:
        pipe.send(str(exc))


def _unload(pipe: Connection[Any, Any], inbox: queue.SimpleQueue[Any]) -> None:
    """Take what comes off the pipe at once: else both ends could wait for the other to read."""
    try:
        while True:
            inbox.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(0)  # whoever started this process is gone
