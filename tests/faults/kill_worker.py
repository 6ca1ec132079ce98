"""A warm process that does jobs in forks of itself and kills them: ``Worker`` starts and asks it.

Each line of its standard input is one run, as JSON: the job, which is a function by its full name,
its arguments, and when to kill it. The job says what it has done on standard output; every step of
``semsearch.fs`` that it reaches is told there as ``point NAME``. The parent of the fork ends each
run with ``end STATUS SECONDS``.

A job may mark its own steps with ``fs.point("step N")``: a kill can then wait for one of them.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from semsearch import fs

HANGS = 120
"""Seconds after which a job is taken to go on for ever."""

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Kill:
    """When a run is killed: after ``seconds``, or at an occurrence of a point.

    An empty ``point`` is any of them. With a ``step`` only those of the job's own step of that
    number count; if it has not enough of them, the next point is the end of it, whatever its name.
    Without an ``occurrence`` nothing happens. With a ``delay`` of so many seconds the process lives
    on from there: to be killed inside of what follows, a commit of SQLite's above all.
    """

    point: str = ""
    occurrence: int = 0
    step: int | None = None
    seconds: float | None = None
    delay: float = 0.0

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"killed after {self.seconds:.4f} s"
        where = "" if self.step is None else f" of step {self.step}"
        late = f", {1e6 * self.delay:.0f} us later" if self.delay else ""
        return f"killed at {self.point or 'point'} {self.occurrence}{where}{late}"


NEVER = Kill()


@dataclass(frozen=True)
class Ran:
    """What a run said, line by line, how it ended and how long it took."""

    said: list[str]
    status: int
    seconds: float

    @property
    def killed(self) -> bool:
        """Whether a signal ended it that it had no say in."""
        return self.status in (signal.SIGKILL, signal.SIGALRM)

    @property
    def points(self) -> list[str]:
        """The points that it reached, in order, without the marks of the job itself."""
        found = self.of("point")
        return [name for name in found if not name.startswith("step ")]

    def of(self, kind: str) -> list[str]:
        """What follows a word, of the lines that start with it."""
        return [line[len(kind) + 1 :] for line in self.said if line.startswith(f"{kind} ")]


class Worker:
    """The warm process: one for a whole campaign. To be used with ``with``.

    ``warm`` names the modules whose ``warm_up`` is called before the first fork.
    """

    def __init__(self, *warm: str, **environment: str) -> None:
        single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a fork has one thread
        single["SEMSEARCH_MIN_FREE"] = "0"  # what is in memory needs none of the disk
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.kill_worker", *warm],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **single, **environment},
            cwd=ROOT,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def run(self, job: str, *arguments: Any, kill: Kill = NEVER) -> Ran:
        """Do a job in a fork; arguments are what JSON can hold, and paths."""
        words = [str(word) if isinstance(word, Path) else word for word in arguments]
        asked = {"job": job, "arguments": words, "kill": asdict(kill)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        said: list[str] = []
        for line in self._process.stdout:
            if line.startswith("end "):
                _, status, seconds = line.split()
                return Ran(said, int(status), float(seconds))
            said.append(line.rstrip("\n"))
        raise AssertionError("the worker ended")


def say(line: str) -> None:
    """Tell whoever asked for this run; past any buffer, as the next moment may be the last."""
    os.write(1, f"{line}\n".encode())


def watch(kill: Kill, tell: Callable[[str], None] = say) -> Callable[[str], None]:
    """A function to be called at every point with its name: it tells it, and kills in time."""
    seen = 0
    counting, over, doomed = kill.step is None, False, False

    def point(name: str) -> None:
        nonlocal seen, counting, over, doomed
        tell(f"point {name}")
        if name.startswith("step "):
            over = over or (counting and kill.step is not None)
            counting = kill.step is None or name == f"step {kill.step}"
            return
        seen += counting and kill.point in ("", name)
        reached = counting and seen >= kill.occurrence and kill.point in ("", name)
        if kill.occurrence and (reached or over) and not doomed:
            doomed = True
            die(kill.delay)

    return point


def die(delay: float) -> None:
    """Be killed, now or so many seconds later; an alarm that nobody heeds is as deadly."""
    if delay:
        signal.setitimer(signal.ITIMER_REAL, delay)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def run_fork(work: Callable[[], None], seconds: float | None = None) -> None:
    """Do a piece of work in a fork, kill it after so many seconds, and say how it ended."""
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            faulthandler.register(signal.SIGUSR1)
            work()
            status = 0
        except BaseException:  # noqa: BLE001 # told, as nobody else will
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)  # not reaped yet, so the number is still its own
    end_of_hanging(child)
    _, status = os.waitpid(child, 0)
    say(f"end {status} {time.perf_counter() - start:.6f}")


def end_of_hanging(child: int) -> None:
    """Wait for a child that ends in time; one that hangs says where, and ends by SIGUSR2."""
    file = os.pidfd_open(child)
    waiting = select.poll()
    waiting.register(file, select.POLLIN)
    if not waiting.poll(1_000 * HANGS):
        os.kill(child, signal.SIGUSR1)
        time.sleep(0.5)
        os.kill(child, signal.SIGUSR2)
    os.close(file)


def _function(name: str) -> Callable[..., None]:
    module, _, function = name.rpartition(".")
    found: Callable[..., None] = getattr(import_module(module), function)
    return found


def _run(asked: dict[str, Any]) -> None:
    job, kill = _function(asked["job"]), Kill(**asked["kill"])

    def work() -> None:
        fs.hook = watch(kill)
        job(*asked["arguments"])

    run_fork(work, kill.seconds)


def main() -> None:
    for name in sys.argv[1:]:
        import_module(name).warm_up()
    for line in sys.stdin:
        _run(json.loads(line))


if __name__ == "__main__":
    main()
