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

SEMSEARCH = [str(Path(sys.executable).with_name("semsearch"))]
"""The installed command."""

PYTHON = [sys.executable]
_ROOT = Path(__file__).resolve().parent.parent
_SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class Finished:
    """A process that ended well: wall and processor seconds, and what it wrote.

    ``peak_anonymous`` in bytes, 0 where it was not watched.
    """

    seconds: float
    cpu_seconds: float
    stdout: str
    stderr: str
    peak_anonymous: int = 0


def run(command: Sequence[str], *, watch_memory: bool = False) -> Finished:
    """Run a process to its end, wall time measured. Raises RuntimeError if it fails."""
    # files, not pipes: nobody has to read them while the clock runs
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=err
        )
        watcher = _Watcher(process.pid) if watch_memory else None
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = code = os.waitstatus_to_exitcode(status)
        peak = watcher.stop() if watcher else 0
        out.seek(0)
        err.seek(0)
        stdout, stderr = out.read(), err.read()
    if code:
        raise RuntimeError(f"{' '.join(command)} exited with {code}:\n{stderr[-2_000:]}")
    return Finished(seconds, used.ru_utime + used.ru_stime, stdout, stderr, peak)


class _Watcher:
    """Samples a process's anonymous memory, as /proc/PID/status tells it, until stopped."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._ended.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            try:
                text = self._status.read_text(encoding="ascii", errors="replace")
            except OSError:
                return
            kilobytes = re.findall(r"^(?:RssAnon|RssShmem):\s*(\d+) kB", text, re.M)
            self._peak = max(self._peak, 1024 * sum(map(int, kilobytes)))
