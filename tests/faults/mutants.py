"""Ways to break the order in which an index is made durable: patches of a running process.

Every call of the product that syncs something is found in its source, and left out one at a time;
others do things in the wrong order, or trust SQLite with less.
"""

from __future__ import annotations

import ast
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import semsearch
from semsearch import fs
from semsearch.store import database

PACKAGE = Path(semsearch.__file__).parent
ROOMS = ("fs.py", "store", "collection", "lexical")
"""What makes an index durable; corpora, models and their caches are not part of it."""

_SYNCS = {"sync_folder", "sync_file", "fsync"}
_INSIDE = {"_flush"}
"""Where fsync is called for others: their calls are left out instead."""


class Call(NamedTuple):
    """A call of ``called``, so many lines below the beginning of a function."""

    file: str
    function: str
    line: int
    called: str


@functools.cache
def sync_calls() -> dict[str, Call]:
    """Each call that syncs, by a name for it."""
    found: dict[str, Call] = {}
    for room in ROOMS:
        place = PACKAGE / room
        for path in [place] if place.is_file() else sorted(place.glob("*.py")):
            calls = _calls(ast.parse(path.read_text(encoding="utf-8")))
            for where, first, line, called in sorted(calls, key=lambda call: call[2]):
                module = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
                name = f"{module}.{where} without {called}"
                number = sum(known == name or known.startswith(name + " #") for known in found)
                call = Call(str(path), where, line - first, called)
                found[f"{name} #{number + 1}" if number else name] = call
    return found


def _calls(tree: ast.Module) -> Iterator[tuple[str, int, int, str]]:
    for outer in ast.walk(tree):
        if not isinstance(outer, ast.FunctionDef) or outer.name in _INSIDE:
            continue
        first = min([outer.lineno, *(node.lineno for node in outer.decorator_list)])
        for node in ast.walk(outer):
            if isinstance(node, ast.Call):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
                called = node.func.id if isinstance(node.func, ast.Name) else called
                if called in _SYNCS:
                    yield outer.name, first, node.lineno, called


def _without(name: str) -> Callable[[ExitStack], None]:
    call = sync_calls()[name]

    def patch(stack: ExitStack) -> None:
        home: Any = os if call.called == "fsync" else fs
        real = getattr(home, call.called)

        def sync(*arguments: Any) -> None:
            frame = sys._getframe(1)
            code, line = frame.f_code, frame.f_lineno - frame.f_code.co_firstlineno
            if (code.co_filename, code.co_name, line) != (call.file, call.function, call.line):
                real(*arguments)

        stack.enter_context(mock.patch.object(home, call.called, sync))

    return patch


def _synchronous(level: str) -> Callable[[ExitStack], None]:
    settings = [s for s in database._SETTINGS if "synchronous" not in s]
    chosen = (*settings, f"PRAGMA synchronous = {level}")

    def patch(stack: ExitStack) -> None:
        stack.enter_context(mock.patch.object(database, "_SETTINGS", chosen))

    return patch


def _rename_first(stack: ExitStack) -> None:
    """A file gets its name before its bytes are on disk."""

    def publish(self: fs.NewFile, name: str) -> Path:
        target = self.folder / name
        self._file.flush()
        os.replace(self._temporary, target)
        fs.sync_folder(self.folder)
        os.fsync(self._file.fileno())
        self._file.close()
        return target

    stack.enter_context(mock.patch.object(fs.NewFile, "publish", publish))


def _commit_first(stack: ExitStack) -> None:
    """A segment gets its name after the commit that names it."""
    late: list[Callable[[], None]] = []
    real = fs.NewFile.publish

    def publish(self: fs.NewFile, name: str) -> Path:
        if Path(sys._getframe(1).f_code.co_filename).name != "blocks.py":
            return real(self, name)  # no segment, or the copy of one
        kept = self.folder / f".tmp-late-{len(late)}-{name}"
        self._file.flush()
        os.fsync(self._file.fileno())
        os.link(self._temporary, kept)

        def finish() -> None:
            with suppress(FileNotFoundError):
                os.replace(kept, self.folder / name)
                fs.sync_folder(self.folder)

        late.append(finish)
        return self.folder / name

    def hook(step: str) -> None:
        while step == "committed" and late:
            late.pop(0)()

    stack.enter_context(mock.patch.object(fs.NewFile, "publish", publish))
    stack.enter_context(mock.patch.object(fs, "hook", hook))


def _others() -> dict[str, Callable[[ExitStack], None]]:
    return {
        "synchronous FULL": _synchronous("FULL"),
        "synchronous NORMAL": _synchronous("NORMAL"),
        "synchronous OFF": _synchronous("OFF"),
        "rename before fsync": _rename_first,
        "commit before rename": _commit_first,
    }


def names() -> list[str]:
    """All mutants."""
    return [*_others(), *sync_calls()]


@contextmanager
def mutated(name: str | None) -> Iterator[None]:
    """The product with one thing wrong in it; as it is with None."""
    with ExitStack() as stack:
        if name is not None:
            (_others().get(name) or _without(name))(stack)
        yield
