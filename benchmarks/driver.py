"""Systems side by side: each in its own process, loaded once, asked in turns.

A system that fails, dies or keeps silent is out from then on, and the reason is kept.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.environments import NotInstalled, python_of
from benchmarks.machine import cores
from semsearch.fs import cache_folder

_ROOT = Path(__file__).resolve().parent.parent
_PATH = re.compile(r"(?<![\w.])(?:/[\w.+-]+){2,}")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class SystemFailed(Exception):
    """Why a system gave no answer, in one line."""


@dataclass(frozen=True)
class System:
    """What to run: a class of ``benchmarks.systems`` with its options, and where.

    ``environment`` is one of ``benchmarks.environments``, or None for our own.
    """

    name: str
    module: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: str | None = None


class Process:
    """A system's process. Raises SystemFailed wherever there is no answer."""

    def __init__(
        self, system: System, options: Mapping[str, Any], home: Path, limit: float
    ) -> None:
        try:
            python = python_of(system.environment)
        except NotInstalled as exc:
            raise SystemFailed(str(exc)) from exc
        self._limit = limit
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        given = json.dumps({**system.options, **options})
        module = system.module if "." in system.module else f"benchmarks.systems.{system.module}"
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", module, system.kind, given],
            cwd=_ROOT,
            env=_environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
        )
        try:
            self._receive()
        except SystemFailed:
            self.close()
            raise

    def ask(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """Call a method of the system; what it returned."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([command, dict(arguments)]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died: reading its answer tells why
        return self._receive()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        timer = threading.Timer(self._limit, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            late = not timer.is_alive()
            timer.cancel()
        if not line:
            raise SystemFailed(f"no answer in {self._limit:.0f} s" if late else self._last_words())
        answer = json.loads(line)
        if "failed" in answer:
            raise SystemFailed(_without_paths(answer["failed"]))
        return answer["answer"]

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return _without_paths(f"exited with {code}: {lines[-1] if lines else 'no message'}")


class Fleet:
    """Loaded systems in their order, and why others are out."""

    def __init__(self) -> None:
        self.running: dict[str, Process] = {}
        self.failed: dict[str, str] = {}

    def ask(self, name: str, command: str, arguments: Mapping[str, Any] = _NOTHING) -> Any:
        """One system's answer, or None when it is out, now or before."""
        if name not in self.running:
            return None
        try:
            return self.running[name].ask(command, arguments)
        except SystemFailed as exc:
            self.failed[name] = str(exc)
            self.running.pop(name).close()
            return None

    def turns(
        self, rounds: int, command: str, arguments: Callable[[str], Mapping[str, Any]]
    ) -> dict[str, list[Any]]:
        """Every system's answers of each round; a round starts with another system than the last.

        Systems that failed on the way are left out of what is returned.
        """
        found: dict[str, list[Any]] = {name: [] for name in self.running}
        for number in range(rounds):
            for name in rotated(list(found), number):
                answer = self.ask(name, command, arguments(name))
                if answer is not None:
                    found[name].append({**answer, "load": round(os.getloadavg()[0], 2)})
        return {name: answers for name, answers in found.items() if name in self.running}

    def reasons(self) -> list[str]:
        """A line for each system that is out."""
        return [f"Not measured: {name}. {reason}." for name, reason in self.failed.items()]


@contextmanager
def fleet(
    systems: Sequence[System],
    options: Callable[[System], Mapping[str, Any]],
    work: Path,
    *,
    limit: float = 3_600.0,
    note: Callable[[str], None] = lambda _: None,
) -> Iterator[Fleet]:
    """Load systems, as many at once as there are cores; their processes end with the block.

    ``options`` adds to each system's own; ``limit`` is how many seconds any answer may take.
    """
    home = work / "home"
    home.mkdir(parents=True, exist_ok=True)

    def start(system: System) -> Process | SystemFailed:
        began = time.perf_counter()
        try:
            process = Process(system, options(system), home, limit)
        except SystemFailed as exc:
            note(f"{system.name}: {exc}")
            return exc
        note(f"{system.name}: loaded in {time.perf_counter() - began:.1f} s")
        return process

    loaded = Fleet()
    try:
        with ThreadPoolExecutor(cores()) as pool:
            for system, started in zip(systems, pool.map(start, systems), strict=True):
                if isinstance(started, SystemFailed):
                    loaded.failed[system.name] = str(started)
                else:
                    loaded.running[system.name] = started
        yield loaded
    finally:
        for process in loaded.running.values():
            process.close()


def versions(facts: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """A line that names what each system told of its versions; none if none told any."""
    told = [
        f"{name}: " + ", ".join(f"{package} {version}" for package, version in found.items())
        for name, fact in facts.items()
        if (found := (fact or {}).get("versions"))
    ]
    return [f"Versions: {'; '.join(told)}."] if told else []


def rotated(names: Sequence[str], number: int) -> list[str]:
    """The names in their order, beginning ``number`` places further on."""
    start = number % len(names) if names else 0
    return [*names[start:], *names[:start]]


def _environment(home: Path) -> dict[str, str]:
    """The same threads for all; no hub, no telemetry, no writing into the user's own folders."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {
        **kept,
        "HOME": str(home),
        "SEMSEARCH_CACHE": str(cache_folder()),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(cores()),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "ANONYMIZED_TELEMETRY": "False",  # Chroma
        "OTEL_SDK_DISABLED": "true",
        "DO_NOT_TRACK": "1",
    }


def _without_paths(text: str) -> str:
    """One line of at most 200 characters, paths cut to their last name."""
    short = _PATH.sub(lambda match: match[0].rsplit("/", 1)[-1], " ".join(text.split()))
    return short[:200]
