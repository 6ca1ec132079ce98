"""Stopping a command: the first signal lets it finish the batch under way, a second one kills it.

Where nothing says otherwise the first signal raises Interrupted at once. Work that goes on in
batches runs inside ``deferred``: the signal is then only noted, and ``check`` raises between two
batches. Programs that use semsearch as a library keep their own handling of signals.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPING = "stopping after the batch under way; once more to stop at once"


class Interrupted(KeyboardInterrupt):
    """A signal asks to stop; ``code`` is what the process is to exit with."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number


class _State:
    """What was asked for so far; ``depth`` counts the ``deferred`` blocks that are open."""

    depth = 0
    asked: int | None = None


def install() -> None:
    """Heed SIGINT and SIGTERM in this process, unless its parent had them ignored."""
    _State.depth, _State.asked = 0, None
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _heed)


def requested() -> bool:
    """Whether a signal was noted, and waits for the batch under way."""
    return _State.asked is not None


def check() -> None:
    """Raise Interrupted if a signal was noted: between two batches."""
    if _State.asked is not None:
        raise Interrupted(_State.asked)


@contextmanager
def deferred() -> Iterator[None]:
    """Let a signal wait inside, for ``check``; at the end it waits no longer."""
    _State.depth += 1
    try:
        yield
    finally:
        _State.depth -= 1
    if not _State.depth:
        check()


@contextmanager
def at_once() -> Iterator[None]:
    """Inside ``deferred``, for what may wait long and loses nothing: let a signal raise here."""
    check()
    depth, _State.depth = _State.depth, 0
    try:
        yield
    finally:
        _State.depth = depth


def _heed(number: int, _frame: FrameType | None) -> None:
    for each in SIGNALS:
        if signal.getsignal(each) is _heed:
            signal.signal(each, signal.SIG_DFL)  # a second one does not wait for Python
    _State.asked = number
    if not _State.depth:
        raise Interrupted(number)
    if sys.stderr.isatty():  # past its buffer, which may be in the middle of a line
        os.write(sys.stderr.fileno(), f"\n{STOPPING}\n".encode())
