"""Cases that may end a process, eat its memory or never end: each in a process that may be lost.

The process is ``python -m MODULE ARGUMENTS``: it reads numbers of cases from standard input and
answers each with one line of JSON. One that dies, or is silent for too long, costs its case only.
"""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PATIENCE = 60.0
ROOT = Path(__file__).resolve().parents[2]
_ROOM = 1 << 30


class _Process:
    """One that may be lost; what it writes to standard error is kept, to say why."""

    def __init__(self, module: str, arguments: Sequence[str]) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed in ``stop``
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asked, self._answers = self._process.stdin, self._process.stdout

    def ask(self, case: int, patience: float) -> dict[str, Any]:
        """What it says of a case, or why it says nothing; then it is no more."""
        with suppress(BrokenPipeError):
            self._asked.write(b"%d\n" % case)
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._answers], [], [], patience)
            part = os.read(self._answers.fileno(), 1 << 16) if ready else b""
            if not part:
                why = self.stop(patience if ready else 0)
                return {"crash": f"{'it ended' if ready else 'no answer'}: {why}"}
            line += part
        found: dict[str, Any] = json.loads(line)
        return found

    def stop(self, patience: float = 0) -> str:
        """Wait for its end, or bring it about: its status, and the last line that it wrote."""
        with self._said, self._process, suppress(BrokenPipeError):
            try:
                self._process.wait(patience)
            except subprocess.TimeoutExpired:
                self._process.kill()
            status = self._process.wait()
            self._said.seek(0)
            lines = self._said.read().decode(errors="replace").strip().splitlines()
        return f"{status}, {lines[-1] if lines else ''}"


def results(
    module: str, arguments: Sequence[str], cases: Sequence[int], patience: float = PATIENCE
) -> Iterator[dict[str, Any]]:
    """What the process says of each case; ``{"crash": WHY}`` where it did not live to say it."""
    process: _Process | None = None
    try:
        for case in cases:
            process = process or _Process(module, arguments)
            found = process.ask(case, patience)
            if "crash" in found:
                process = None
            yield {"case": case, **found}
    finally:
        if process is not None:
            process.stop()


def serve(perform: Callable[[int], dict[str, Any]]) -> None:
    """Answer cases until there are no more, in little more memory than is in use by now."""
    limit_memory()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    for line in sys.stdin:
        answers.write(json.dumps(perform(int(line))) + "\n")
        answers.flush()


def limit_memory(room: int = _ROOM) -> None:
    """Refuse this process more address space than what it has and ``room``."""
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
