"""``python -m benchmarks [NAME ...] [--full]``: measure, print tables, keep the results as JSON."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

from benchmarks import machine, readme, results
from benchmarks.setting import Setting

NAMES = (
    "quality",
    "rankings",
    "late_interaction",
    "reranking",
    "scoring",
    "encoding",
    "peers",
    "startup",
    "latency",
    "indexing",
    "memory",
    "growth",
    "filtered_search",
    "vector_search",
    "large_search",
    "training",
    "gpu",
)
"""The benchmarks in their order, each a module with ``run(setting) -> Result``."""

LONG = {"memory", "large_search", "training"}
"""Left out of the small run unless they are named: their small sizes take minutes too; growth and
vector_search show the same as the first two on less."""


def main() -> int:
    """Run what was asked for; 1 if a benchmark failed, whatever the goals."""
    arguments = _parse()
    failed = []
    with ExitStack() as stack:
        work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        setting = Setting(arguments.full, work)
        only_readme = arguments.write_readme and not arguments.names
        for name in () if only_readme else arguments.names or _default(arguments.full):
            try:
                _measure(name, setting)
            except Exception as exc:  # the others still count
                print(f"{name} failed: {type(exc).__name__}: {exc}", file=sys.stderr)
                failed.append(name)
    if arguments.write_readme:
        if problem := readme.draw():
            print(f"no pictures: {problem}", file=sys.stderr)
        for name in readme.write():
            print(f"no result of {name} yet", file=sys.stderr)
    return 1 if failed else 0


def _default(full: bool) -> list[str]:
    return [name for name in NAMES if full or name not in LONG]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--full", action="store_true", help="the sizes of the published figures")
    parser.add_argument("--work", type=Path, help="keep indexes here  [default: a temporary one]")
    parser.add_argument(
        "--write-readme", action="store_true", help="write the newest results into README.md"
    )
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in NAMES:
            parser.error(f"no benchmark {name!r}: choose from {', '.join(NAMES)}")
    return arguments


def _measure(name: str, setting: Setting) -> None:
    size = "full" if setting.full else "small"
    print(f"{name} ({size})", file=sys.stderr, flush=True)
    facts = machine.facts()
    began, used = time.perf_counter(), machine.processor_seconds()
    result = import_module(f"benchmarks.{name}").run(setting)
    if not result.rows:  # what cannot be measured here takes no measured figure's place
        print("\n".join(["", f"## {result.title}", "", *result.notes]))
        return
    facts["machine"]["load_average_after"] = [round(load, 2) for load in os.getloadavg()]
    facts["seconds"] = round(time.perf_counter() - began, 1)
    facts["processor_seconds"] = round(machine.processor_seconds() - used, 1)
    path = results.write(name, result, facts, size)
    print(f"\n## {result.title}\n")
    for part in results.parts(result):
        print("\n".join([*part, ""]))
    print(f"{path.name} written after {facts['seconds']:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
