"""The other end of ``io_worker``: a warm process that does jobs under the shim."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.faults import shim

HOME = Path(__file__).parents[2]


class IoWorker:
    """Started once; every job happens in a fork of it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.io_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=shim.environment(),
            cwd=HOME,
        )

    def __enter__(self) -> IoWorker:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def do(self, job: str, **settings: Any) -> dict[str, Any]:
        """The worker's answer; ``broken`` holds what went wrong with itself."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"job": job, **settings}, default=str)
        print(line, file=self._process.stdin, flush=True)
        told: dict[str, Any] = json.loads(self._process.stdout.readline())
        return told
