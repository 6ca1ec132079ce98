"""A lock that one process holds on a file, without its forks, for as long as it lives.

The kernel frees it when the process ends, however it ends: nothing ever needs unlocking. It belongs
to the open file, which a fork shares with its parent: were the fork to keep it, it would keep
everybody out after its parent is gone. So a fork closes its end at once.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_TRIES = 10
_WAIT = 0.005


class Taken(Exception):
    """Another open file has the lock; ``holder`` is its process's number, or ``unknown``."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


class Held:
    """A lock that is held, until ``release`` or the end of the process that took it."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd
        _HELD.add(self)

    def release(self) -> None:
        """Let go of it; in a fork of its holder this does nothing."""
        if self._fd is not None:
            with suppress(OSError):  # so that nobody takes this process for the next holder
                os.ftruncate(self._fd, 0)
        self.close()

    def close(self) -> None:
        """Close the file and leave it as it is."""
        _HELD.discard(self)
        fd, self._fd = self._fd, None
        if fd is not None:
            with suppress(OSError):  # the lock is gone, whatever the disk says
                os.close(fd)


_HELD: set[Held] = set()


def require() -> None:
    """Raise ImportError where there are no such locks."""
    import fcntl  # noqa: F401


def take(path: Path) -> Held:
    """Take the lock of a file, which is made, or raise Taken at once.

    The file then holds the number of this process. Raises OSError.
    """
    import fcntl

    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        holder = _holder(fd)
        os.close(fd)
        raise Taken(holder) from exc
    except BaseException:
        os.close(fd)
        raise
    held = Held(fd)
    with suppress(OSError):  # the number only informs: a full disk must not keep writers out
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return held


def _holder(fd: int) -> str:
    """The number in the file; one that took the lock just now may still have to write its own."""
    found = ""
    for _ in range(_TRIES):
        found = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        if found.isdecimal() and _lives(int(found)):
            return found
        time.sleep(_WAIT)
    return found or "unknown"  # in another container numbers mean nothing here


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _let_go() -> None:
    """In a fork: its parent holds the locks."""
    for held in list(_HELD):
        held.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
