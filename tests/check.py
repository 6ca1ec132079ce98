"""Every check in one command: ``python -m tests.check [--fast]``.

Runs all of them, whatever fails, prints one table, and exits with 1 if any failed. ``--fast``
leaves out the tests marked slow, and coverage.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STORAGE = "semsearch/fs.py,semsearch/store/*,semsearch/collection/*"
"""What must never lose anything: every line and every branch of it is tested."""


def checks(fast: bool) -> dict[str, list[str]]:
    """Return the modules to run, with their arguments, by the name of the check."""
    tests = ["-m", "not slow"] if fast else ["--cov"]
    found = {
        "format": ["ruff", "format", "--check", "."],
        "lint": ["ruff", "check", "."],
        "types": ["mypy"],
        "docs": ["tests.docs"],
        "tests": ["pytest", *tests],
    }
    if not fast:
        found["storage"] = ["coverage", "report", f"--include={STORAGE}", "--fail-under=100"]
    return found


def run(module: str, *arguments: str) -> tuple[bool, float]:
    """Run one module in a process of its own; return whether it passed, and its seconds."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, check=False)
    return done.returncode == 0, time.perf_counter() - start


def main() -> int:
    """Run every check and print the table; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.check", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="leave out slow tests and coverage")
    results = {}
    for name, command in checks(parser.parse_args().fast).items():
        print(f"== {name}: python -m {' '.join(command)}", flush=True)
        results[name] = run(*command)
    print(f"\n{'check':<8}{'result':<8}{'seconds':>8}")
    for name, (passed, seconds) in results.items():
        print(f"{name:<8}{'passed' if passed else 'FAILED':<8}{seconds:>8.1f}")
    return 0 if all(passed for passed, _ in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
