"""The libraries: which are installed, in which version, and whether that is enough.

Their versions are read from what is installed; nothing heavy is imported. ``deep`` imports each in
a process of its own, which may crash without harm.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sqlite3
import subprocess
import sys

from semsearch import __version__
from semsearch.cli.health.finding import Finding, Findings, Level

TOPIC = "software"
_NEEDED = (
    "numpy", "torch", "transformers", "sentence-transformers", "tokenizers", "safetensors",
    "sqlite-utils",
)  # fmt: skip
_IMPORTED = {
    "numpy": "numpy",
    "torch": "torch",
    "transformers": "transformers",
    "sentence-transformers": "sentence_transformers",
    "tokenizers": "tokenizers",
    "safetensors": "safetensors",
    "sqlite-utils": "sqlite_utils",
    "openvino": "openvino",
    "tantivy": "tantivy",
    "faiss": "faiss",
}
_WITHOUT = {
    "openvino": "torch computes instead, which is slower on a processor: pip install openvino",
    "tantivy": "searches are by vectors only: pip install tantivy",
}
_NO_FAISS = "large indexes are scanned exactly: pip install 'semsearch[cpu]'"
_TWO_FAISS = "they hold the same module: pip uninstall faiss-cpu faiss-gpu, then install one"
_FLOOR = re.compile(r"^([A-Za-z0-9._-]+)[^>;]*>=\s*([0-9.]+)")
_SECONDS = 120
# Fixed in 3.51.3, and in the series 3.44 and 3.50 from these on.
_WAL_FIXED = ((3, 44, 6), (3, 50, 7))


def look_at_software(deep: bool) -> Findings:
    """Versions of Python, SQLite, semsearch and its libraries."""
    yield Finding(TOPIC, "semsearch", __version__)
    system = os.uname()  # `platform` asks another program
    where = f"{system.sysname} {system.release} {system.machine}"
    yield Finding(TOPIC, "Python", f"{platform.python_version()} on {where}")
    yield _sqlite()
    floors = _floors()
    for name in _NEEDED:
        yield _package(name, floors, "problem", f"pip install {name}")
    for name, without in _WITHOUT.items():
        yield _package(name, floors, "note", without)
    yield _faiss()
    if deep:
        yield from _imports()
    else:
        yield Finding(TOPIC, "imports", "not tried here: --deep does, and encodes a sentence")


def _sqlite() -> Finding:
    version = sqlite3.sqlite_version_info
    same_series = any(version[:2] == fix[:2] and version >= fix for fix in _WAL_FIXED)
    bug = (3, 7, 0) <= version < (3, 51, 3) and not same_series
    told = "has the WAL-reset bug, which the journal used here cannot meet" if bug else "as needed"
    return Finding(TOPIC, "SQLite", f"{sqlite3.sqlite_version}, {told}")


def version_of(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _floors() -> dict[str, str]:
    """The least version of each dependency, from semsearch's own record; empty without one."""
    try:
        wanted = importlib.metadata.requires("semsearch") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = (_FLOOR.match(line) for line in wanted)
    return {_plain(match[1]): match[2] for match in found if match}


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def _package(name: str, floors: dict[str, str], level: Level, without: str) -> Finding:
    version = version_of(name)
    if version is None:
        return Finding(TOPIC, name, "not installed", level, without)
    floor = floors.get(name, "0")
    if _numbers(version) < _numbers(floor):
        advice = f"pip install '{name}>={floor}'"
        return Finding(TOPIC, name, f"{version}, older than {floor}", "problem", advice)
    return Finding(TOPIC, name, version)


def _faiss() -> Finding:
    found = {name: version_of(name) for name in ("faiss-cpu", "faiss-gpu")}
    there = [f"{version} ({name})" for name, version in found.items() if version]
    if not there:
        return Finding(TOPIC, "faiss", "not installed", "note", _NO_FAISS)
    if len(there) > 1:
        return Finding(TOPIC, "faiss", " and ".join(there), "problem", _TWO_FAISS)
    return Finding(TOPIC, "faiss", there[0])


def _imports() -> Findings:
    """Whether each installed library can be imported: a broken one is known only then."""
    for name, module in _IMPORTED.items():
        names = ("faiss-cpu", "faiss-gpu") if name == "faiss" else (name,)
        if not any(map(version_of, names)):
            continue
        failed = import_fails(module)
        if failed:
            advice = f"install it again: pip install --force-reinstall {name}"
            yield Finding(TOPIC, f"import {module}", failed, "problem", advice)
        else:
            yield Finding(TOPIC, f"import {module}", "works")


def import_fails(module: str) -> str | None:
    """What a fresh process says when it imports a module; None if it can."""
    how = f"import {module}"
    if module == "openvino":  # without its telemetry, as we import it
        how = "from semsearch.encoders.runtimes.graph import import_openvino; import_openvino()"
    command = [sys.executable, "-W", "ignore", "-c", how]
    try:
        done = subprocess.run(  # noqa: S603 - this Python, with constants of ours
            command, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"takes longer than {_SECONDS} s"
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1][:200] if lines else f"the process ended with {done.returncode}"
