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
from collections.abc import Callable, Iterator, Sequence
from typing import Any

PATIENCE = 60.0
_ROOM = 1 << 30


def results(
    module: str, arguments: Sequence[str], cases: Sequence[int], patience: float = PATIENCE
) -> Iterator[dict[str, Any]]:
    """What the process says of each case; ``{"crash": WHY}`` where it did not live to say it."""
    process = None
    try:
        for case in cases:
            if process is None or process.poll() is not None:
                process = _start(module, arguments)
            line = _answer(process, case, patience)
            if line:
                yield {"case": case, **json.loads(line)}
                continue
            hung = process.poll() is None and not _ended(process)
            process.kill()
            status = process.wait()
            why = f"no answer for {patience:.0f} s" if hung else f"the process ended with {status}"
            yield {"case": case, "crash": why}
    finally:
        if process is not None:
            process.kill()
            process.wait()


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it is ending: its output is closed before its status is there."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 0)
    return bool(ready)


def _start(module: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        bufsize=0,
    )


def _answer(process: subprocess.Popen[bytes], case: int, patience: float) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(b"%d\n" % case)
    except BrokenPipeError:
        return b""
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], patience)
        part = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
        if not part:
            return b""
        line += part
    return line


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
