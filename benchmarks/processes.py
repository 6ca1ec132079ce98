"""Running and timing processes, and watching how much memory they take."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SEMSEARCH = [str(Path(sys.executable).with_name("semsearch"))]
"""The installed command."""

PYTHON = [sys.executable]
_ROOT = Path(__file__).resolve().parent.parent
_SAMPLE_SECONDS = 0.02
_TICKS = os.sysconf("SC_CLK_TCK")


class Sample(NamedTuple):
    """A moment of a process: wall and processor seconds since its start, anonymous bytes.

    ``read`` is how far it has read the followed file, in bytes; 0 before that is opened.
    """

    seconds: float
    cpu_seconds: float
    anonymous: int
    read: int


@dataclass(frozen=True)
class Finished:
    """A process that ended well: wall and processor seconds, and what it wrote.

    ``samples`` are of its whole time, in order; empty where it was not watched.
    """

    seconds: float
    cpu_seconds: float
    stdout: str
    stderr: str
    samples: Sequence[Sample] = ()

    @property
    def peak_anonymous(self) -> int:
        """The most anonymous memory it had, in bytes; 0 where it was not watched."""
        return max((sample.anonymous for sample in self.samples), default=0)


def run(
    command: Sequence[str], *, watch_memory: bool = False, follow: Path | None = None
) -> Finished:
    """Run a process to its end, wall time measured. Raises RuntimeError if it fails.

    ``watch_memory`` samples it on the way (Linux only), with how far it is in the file ``follow``.
    """
    # files, not pipes: nobody has to read them while the clock runs
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        watcher = _Watcher(process.pid, began, follow) if watch_memory else None
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = code = os.waitstatus_to_exitcode(status)
        samples = watcher.stop() if watcher else ()
        out.seek(0)
        err.seek(0)
        stdout, stderr = out.read(), err.read()
    if code:
        raise RuntimeError(f"{' '.join(command)} exited with {code}:\n{stderr[-2_000:]}")
    return Finished(seconds, used.ru_utime + used.ru_stime, stdout, stderr, samples)


class _Watcher:
    """Samples a process, as /proc/PID tells, until stopped."""

    def __init__(self, pid: int, began: float, follow: Path | None) -> None:
        self._process = Path(f"/proc/{pid}")
        self._began = began
        self._follow = None if follow is None else follow.resolve()
        self._place: Path | None = None
        self._samples: list[Sample] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> list[Sample]:
        self._ended.set()
        self._thread.join()
        return self._samples

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            try:
                status = (self._process / "status").read_text(encoding="ascii", errors="replace")
                stat = (self._process / "stat").read_text(encoding="ascii", errors="replace")
            except OSError:
                return
            kilobytes = re.findall(r"^(?:RssAnon|RssShmem):\s*(\d+) kB", status, re.M)
            user, system = stat.rsplit(")", 1)[1].split()[11:13]
            cpu = (int(user) + int(system)) / _TICKS
            seconds = time.perf_counter() - self._began
            self._samples.append(
                Sample(seconds, cpu, 1024 * sum(map(int, kilobytes)), self._read())
            )

    def _read(self) -> int:
        """How far the followed file was read; once it is closed, that is all of it."""
        if self._follow is None:
            return 0
        try:
            if self._place is None or os.readlink(self._place) != str(self._follow):
                self._place = next(
                    path
                    for path in (self._process / "fd").iterdir()
                    if os.readlink(path) == str(self._follow)
                )
            info = self._process / "fdinfo" / self._place.name
            return int(info.read_text(encoding="ascii").split()[1])
        except (OSError, StopIteration):
            was_open = self._samples and self._samples[-1].read
            return self._follow.stat().st_size if was_open else 0
