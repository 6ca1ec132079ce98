"""Modules written in C, and names that only exist at run time, as described by a subprocess."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semsearch.corpus.stdlib.records import Module, Scope, Thing
from semsearch.errors import NotFound

TIMEOUT = 60.0
"""Seconds; the answer takes a fraction of one."""


def describe(names: Sequence[str], timeout: float = TIMEOUT) -> dict[str, Module]:
    """Import ``names`` in one isolated subprocess and return what they say of themselves.

    Modules that do not exist on this platform are missing from the answer. Raises NotFound if the
    subprocess cannot be run, fails or does not answer within ``timeout`` seconds.
    """
    script = Path(__file__).with_name("describe.py")
    command = [sys.executable or "python3", "-I", "-S", str(script)]
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, on a script of ours
            command,
            input=json.dumps({"modules": list(names)}),
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=True,
            env={**os.environ, "TERM": "dumb", "PYTHONIOENCODING": "utf-8"},
        )
        answer = json.loads(done.stdout.rstrip("\n").rpartition("\n")[2])
    except subprocess.TimeoutExpired as exc:
        raise NotFound(f"{command[0]}: no description of C modules in {timeout:g} s") from exc
    except subprocess.CalledProcessError as exc:
        last = (exc.stderr or "").strip().rpartition("\n")[2]
        why = last or f"exit {exc.returncode}"
        raise NotFound(f"{command[0]}: cannot describe the modules written in C: {why}") from exc
    except (OSError, ValueError) as exc:
        raise NotFound(f"{command[0]}: cannot describe the modules written in C: {exc}") from exc
    return {name: _module(name, found) for name, found in answer.items()}


def _module(name: str, found: dict[str, Any]) -> Module:
    scope = Scope()
    for label, thing in found["names"].items():
        scope.bind(label, _thing(name, thing))
    return Module(name, found["summary"], scope)


def _thing(module: str, found: dict[str, Any]) -> Thing:
    thing = Thing(found["key"], found["kind"], module, found["signature"], found["doc"])
    if thing.kind == "class":
        thing.scope = Scope()
        thing.bases = tuple(found["bases"])
        for label, member in found["members"].items():
            thing.scope.bind(label, _thing(module, member))
    return thing
