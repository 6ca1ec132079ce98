"""Check what is written for people: ``python -m tests.docs`` prints each problem on a line."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import semsearch

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = [ROOT / "README.md", ROOT / "CHANGELOG.md"]
FOLDERS = ("benchmarks", "data", "semsearch", "tests")
SUFFIXES = {".md", ".py", ".toml", ".json", ".tsv"}

RUNNABLE = re.compile(r"```(?:sh|shell|bash|console|python)$")
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:root|home|work|mnt|opt|Users)/\w+")


def files() -> Iterator[Path]:
    """Yield the files that people read: documents and sources."""
    yield from WRITTEN
    for folder in FOLDERS:
        found = (ROOT / folder).rglob("*")
        yield from sorted(path for path in found if path.suffix in SUFFIXES and path.is_file())


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield ``file:line`` and the text of every line."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        yield f"{path.relative_to(ROOT)}:{number}", line


def late_start() -> Iterator[str]:
    """Yield a problem unless README shows something to run before line 20."""
    head = [line for _, line in lines(ROOT / "README.md")][:18]
    if not any(RUNNABLE.match(line) for line in head):
        yield "README.md: the first runnable line must stand above line 20"


def broken_links() -> Iterator[str]:
    """Yield every link to a file that is not there."""
    for path in files():
        if path.suffix != ".md":
            continue
        for place, line in lines(path):
            for target in LINK.findall(line):
                if "://" not in target and not (path.parent / target).exists():
                    yield f"{place}: no such file: {target}"


def machine_paths() -> Iterator[str]:
    """Yield every path that exists on one machine only."""
    for path in files():
        for place, line in lines(path):
            for found in MACHINE_PATH.findall(line):
                yield f"{place}: a path of one machine: {found}"


def unlisted_version() -> Iterator[str]:
    """Yield a problem unless the changelog has this version."""
    heading = f"## [{semsearch.__version__}]"
    if not any(line.startswith(heading) for _, line in lines(ROOT / "CHANGELOG.md")):
        yield f"CHANGELOG.md: no heading {heading}"


def problems() -> Iterator[str]:
    """Yield every problem of every kind."""
    missing = [path.name for path in WRITTEN if not path.exists()]
    if missing:
        yield f"missing: {', '.join(missing)}"
        return
    for check in (late_start, broken_links, machine_paths, unlisted_version):
        yield from check()


def main() -> int:
    """Print the problems; return 1 if there are any."""
    found = list(problems())
    print("\n".join(found) or "the documents are in order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
