"""Which modules of the standard library are public, and where their sources lie.

The rule, in one place: a module is public if its name is in ``sys.stdlib_module_names``, no part
of its name starts with an underscore, and none of the three tables below leaves it out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from semsearch.errors import NotFound


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# PEP 594 and the modules that left with it (all are gone from Python 3.13), then old names that
# only forward elsewhere.
DEPRECATED = _names("""
    aifc asynchat asyncore audioop binhex cgi cgitb chunk crypt distutils imghdr imp lib2to3
    mailcap msilib nis nntplib ossaudiodev pipes smtpd sndhdr spwd sunau telnetlib uu xdrlib
    sre_compile sre_constants sre_parse tkinter.tix xml.etree.cElementTree importlib.resources.abc
""")

# Tests, programs, jokes and data that happen to be importable, then parts of packages that are
# documented, and imported, under another name.
NOT_AN_API = _names("""
    test idlelib turtledemo this antigravity pydoc_data
    ctypes.test ctypes.macholib sqlite3.test tkinter.test unittest.test
    posix nt posixpath ntpath genericpath nturl2path pyexpat opcode
    sqlite3.dump json.scanner concurrent.futures.process concurrent.futures.thread
    importlib.simple importlib.readers importlib.resources.simple importlib.resources.readers
    importlib.metadata.diagnose email.architecture
    xml.dom.expatbuilder xml.dom.minicompat xml.dom.domreg
    xml.etree.ElementInclude xml.etree.ElementPath xml.sax.expatreader
""")

# Packages whose parts are imported from the package itself; the parts that are documented by
# themselves are named here, all others count as private.
FACADES = {
    "asyncio": frozenset({"subprocess"}),
    "encodings": frozenset({"idna"}),
    "multiprocessing": frozenset({"connection", "managers", "pool", "shared_memory"}),
    "unittest": frozenset({"mock"}),
}

RENAMED = {os.path.__name__: "os.path", "builtins": ""}
"""Module -> the name under which its contents are reached, where that is another one."""


@lru_cache(maxsize=1)
def library() -> Path:
    """The folder of the running interpreter's standard library sources.

    Raises NotFound if this interpreter was installed without sources.
    """
    folder = Path(os.__file__).parent
    if not (folder / "json" / "__init__.py").is_file():
        raise NotFound(f"{folder}: this Python has no standard library sources; use another one")
    return folder


def source_file(module: str) -> Path | None:
    """The source of a module or package, None where it has none (written in C, or absent)."""
    path = library().joinpath(*module.split("."))
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if file.is_file():
            return file
    return None


def submodules(package: str) -> list[str]:
    """Dotted names of a package's direct submodules with sources, sorted; [] for a module."""
    folder = library().joinpath(*package.split("."))
    if not (folder / "__init__.py").is_file():
        return []
    names = {path.stem for path in folder.glob("*.py")} - {"__init__", "__main__"}
    names |= {path.parent.name for path in folder.glob("*/__init__.py")}
    return [f"{package}.{name}" for name in sorted(names)]


def is_public(module: str) -> bool:
    """Whether people import this module by this name."""
    if module in RENAMED:
        return True
    parts = module.split(".")
    if parts[0] not in sys.stdlib_module_names or any(part.startswith("_") for part in parts):
        return False
    prefixes = {".".join(parts[: i + 1]) for i in range(len(parts))}
    if prefixes & (DEPRECATED | NOT_AN_API):
        return False
    return len(parts) < 2 or parts[0] not in FACADES or parts[1] in FACADES[parts[0]]


def public_modules() -> Iterator[str]:
    """Every public module, parents before children, sorted; sources and C modules alike."""
    waiting = sorted(m for m in sys.stdlib_module_names | set(RENAMED) if is_public(m))
    while waiting:
        module = waiting.pop(0)
        yield module
        waiting[:0] = [name for name in submodules(module) if is_public(name)]


def without_source() -> list[str]:
    """Standard modules that may exist in compiled form only and are harmless to import."""
    return [
        name
        for name in sorted(sys.stdlib_module_names)
        if source_file(name) is None
        and not name.startswith(("_test", "_xx", "xx", "_ctypes_test"))
        and name not in DEPRECATED | {"_tkinter", "_scproxy", "_crypt", "antigravity"}
    ]
