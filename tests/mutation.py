"""Plant mistakes in the storage code, one at a time, and see whether the tests find them.

``python -m tests.mutation --sample 300 --seed 20`` works on a copy of the tree, prints what became
of each mutant, the difference of every one that survived, and the totals. Nothing needs to be
installed for it. ``tests.mutation_operators`` says which mistakes those are.

The tests run once under coverage, which tells what runs each line. Then each mutant is given to
them in a process forked from one in which all libraries are loaded: the quickest tests that run its
line, up to ``--budget`` seconds of them, until one fails. A mutant that survives under a budget may
be found by slower tests: ``--only NUMBERS --budget 1000`` tries some again.
"""

import argparse
import contextlib
import difflib
import gc
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.mutation_operators import Mutant, mutants_of

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("semsearch/fs.py", "semsearch/store/*.py", "semsearch/collection/*.py")
TESTS = (
    "tests/test_store_*.py", "tests/test_storage_*.py", "tests/test_collection.py",
    "tests/test_check.py", "tests/test_token_files.py", "tests/test_derived_files.py",
    "tests/test_backup.py", "tests/test_repair.py", "tests/test_reindex.py",
    "tests/test_reading.py",
)  # fmt: skip
LIBRARIES = (
    "numpy", "pytest", "pytest_cov", "hypothesis", "torch", "faiss", "sqlite_utils", "tantivy",
    "tokenizers", "safetensors", "click", "tqdm", "py3langid", "threadpoolctl", "huggingface_hub",
    "sqlite_utils.migrations", "safetensors.numpy", "transformers", "unittest.mock",
    "sentence_transformers", "http.server", "asyncio", "multiprocessing",
)  # fmt: skip
_MEMORY = 8 << 30
_FILE = 1 << 30


class Watch:
    """A pytest plugin that notes how long each test takes, and which failed."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.append(report.nodeid)


class Bench:
    """A copy of the tree, what its tests run, and a process that has the libraries loaded."""

    def __init__(self, scratch: Path, budget: float) -> None:
        self.scratch, self.budget = scratch, budget
        self.seconds: dict[str, float] = {}
        self.tests: dict[str, dict[int, set[str]]] = {}
        os.environ["TMPDIR"] = str(scratch)
        os.environ["PYTHONPATH"] = os.getcwd()
        for name in LIBRARIES:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        gc.freeze()  # pytest collects garbage at its end: not that of the libraries

    def measure(self, again: bool) -> None:
        """Run all tests as they are: they must pass, and say which lines each of them runs.

        ``again``: an earlier run in this folder has done so.
        """
        import coverage

        watched = Path(".watched.json")
        names = sorted(str(path) for pattern in TESTS for path in Path().glob(pattern))
        options = ["--cov=semsearch.store", "--cov=semsearch.collection", "--cov=semsearch.fs"]
        options += ["--cov-context=test", "--cov-report=", "--cov-fail-under=0"]
        if not again and self._forked([*options, *names], 3600, watched) != 0:
            raise SystemExit(f"the tests fail as they are: {watched.read_text()}")
        self.seconds = json.loads(watched.read_text())["seconds"]
        data = coverage.CoverageData(".coverage")
        data.read()
        for file in data.measured_files():
            by_line = data.contexts_by_lineno(file)
            of = {line: self._whole(contexts) for line, contexts in by_line.items()}
            self.tests[str(Path(file).relative_to(Path.cwd()))] = of

    def _whole(self, contexts: Sequence[str]) -> set[str]:
        """The tests of contexts; what a fixture ran concerns all tests of its file."""
        found: set[str] = set()
        for context in contexts:
            node, _, phase = context.rpartition("|")
            if phase == "setup":
                file = node.partition("::")[0] + "::"
                found.update(name for name in self.seconds if name.startswith(file))
            elif node:
                found.add(node)
        return found & self.seconds.keys()

    def try_out(self, mutant: Mutant) -> str:
        """What became of a mutant: killed, timeout, survived, or untested."""
        of = self.tests.get(mutant.path, {})
        chosen = set().union(*(of.get(line, set()) for line in mutant.lines))
        chosen = chosen or set().union(*of.values(), set())
        names: list[str] = []
        total = 0.0
        for name in sorted(chosen, key=lambda name: (self.seconds[name], name)):
            total += self.seconds[name]
            if names and total > self.budget:
                break
            names.append(name)
        if not names:
            return "untested"
        path = Path(mutant.path)
        source, times = path.read_bytes(), path.stat()
        try:
            path.write_bytes(mutant.applied(source))
            os.utime(path, (times.st_atime, times.st_mtime + 100 + random.randrange(10**6)))
            status = self._forked(["-x", *names], 60 + 4 * min(total, self.budget), None)
        finally:
            path.write_bytes(source)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        return {0: "survived", None: "timeout"}.get(status, "killed")

    def _forked(self, arguments: list[str], limit: float, watched: Path | None) -> int | None:
        """The exit status of pytest in a process of its own; None if it took too long."""
        work = Path(tempfile.mkdtemp(dir=self.scratch))
        child = os.fork()
        if not child:
            try:
                os._exit(_run_tests(arguments, work, watched))
            finally:
                os._exit(99)
        until = time.monotonic() + limit
        status: int | None = None
        while time.monotonic() < until:
            done, code = os.waitpid(child, os.WNOHANG)
            if done:
                status = os.waitstatus_to_exitcode(code)
                break
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if status is None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)
        shutil.rmtree(work, ignore_errors=True)
        return status


def _run_tests(arguments: list[str], work: Path, watched: Path | None) -> int:
    """In the forked process: a group of its own, bounded, silent."""
    import pytest

    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))
    tempfile.tempdir = os.environ["TMPDIR"] = str(work)
    sink = os.open(os.environ.get("MUTATION_LOG", os.devnull), os.O_WRONLY | os.O_APPEND)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    if watched is None:  # a mutant must leave nothing behind
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    watch = Watch()
    common = ["-q", "-p", "no:cacheprovider", "--no-header", "--basetemp", str(work / "pytest")]
    common += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # plugins are loaded already
    common += ["-p", "no:anyio"]
    status = int(pytest.main([*common, *arguments], plugins=[watch]))
    if watched is not None:
        watched.write_text(json.dumps({"seconds": watch.seconds, "failed": watch.failed}))
    return status


def all_mutants() -> list[Mutant]:
    """Every mutant of the storage code; its number is its place in this list."""
    paths = sorted(path for pattern in PLACES for path in Path().glob(pattern))
    return [mutant for path in paths for mutant in mutants_of(str(path), path.read_bytes())]


def sample(mutants: Sequence[Mutant], size: int, seed: int) -> list[int]:
    """Numbers of so many mutants, spread over the files as they are large."""
    chance = random.Random(seed)
    of: dict[str, list[int]] = defaultdict(list)
    for number, mutant in enumerate(mutants):
        of[mutant.path].append(number)
    order = []
    for numbers in of.values():
        chance.shuffle(numbers)
        order += [((i + chance.random()) / len(numbers), n) for i, n in enumerate(numbers)]
    return sorted(number for _, number in sorted(order)[:size])


def difference(mutant: Mutant) -> str:
    """The lines that a mutant changes."""
    source = Path(mutant.path).read_bytes()
    before, after = (text.decode().splitlines() for text in (source, mutant.applied(source)))
    lines = list(difflib.unified_diff(before, after, lineterm="", n=0))[2:]
    return "\n".join(lines)


def in_copy(options: argparse.Namespace) -> int:
    """Everything, in the copy of the tree that is the current folder."""
    mutants = all_mutants()
    numbers = options.only or sample(mutants, options.sample or len(mutants), options.seed)
    print(f"{len(numbers)} of {len(mutants)} mutants, seed {options.seed}", flush=True)
    if options.list:
        for number in numbers:
            print(f"{number} {mutants[number].path}\n{difference(mutants[number])}")
        return 0
    with tempfile.TemporaryDirectory(prefix="mutation-", dir=_quick_folder()) as scratch:
        bench = Bench(Path(scratch), options.budget)
        bench.measure(options.again)
        print(f"{len(bench.seconds)} tests, {sum(bench.seconds.values()):.0f} s", flush=True)
        fates: dict[str, list[int]] = defaultdict(list)
        for number in numbers:
            start = time.monotonic()
            fate = bench.try_out(mutants[number])
            fates[fate].append(number)
            print(f"{number} {fate} {time.monotonic() - start:.1f} s {mutants[number].path}")
            if fate in ("survived", "untested"):
                print(difference(mutants[number]))
            sys.stdout.flush()
    print(" ".join(f"{fate} {len(found)}" for fate, found in sorted(fates.items())))
    alive = fates["survived"] + fates["untested"]
    print(f"{1 - len(alive) / len(numbers):.1%} found; not found: {','.join(map(str, alive))}")
    return 0


def _quick_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def main() -> int:
    """Copy the tree and go on there, so that nothing here is ever changed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--sample", type=int, default=0, help="so many mutants; default: all")
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of tests a mutant")
    parser.add_argument("--only", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--list", action="store_true", help="show the mutants, try none")
    parser.add_argument("--again", action="store_true", help="measured here before (--here)")
    parser.add_argument("--here", action="store_true", help="this tree is a copy already")
    options = parser.parse_args()
    if options.here:
        return in_copy(options)
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tree = Path(folder) / "tree"
        without = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.idx")
        shutil.copytree(ROOT, tree, ignore=without)
        command = [sys.executable, "-m", "tests.mutation", "--here", *sys.argv[1:]]
        return subprocess.run(command, cwd=tree, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
