"""Describe compiled modules by what they say of themselves: run as a script, in a fresh process.

Reads ``{"modules": [names]}`` as JSON from stdin and writes one line of JSON to stdout:
``{module: {"summary": str, "names": {name: thing}}}`` where a thing is ``{"key", "kind",
"signature", "doc"}`` and, for classes, ``"members": {name: thing}`` and ``"bases": [keys]``.
Modules that cannot be imported are left out. Imports nothing of its package.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from types import BuiltinFunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any

PROPERTIES = (GetSetDescriptorType, MemberDescriptorType, property)
# Arguments that the interpreter supplies; inspect would show them as ordinary parameters.
SUPPLIED = re.compile(r"\((\$?(self|module|type|cls)|\$\w+)(, /)?(, )?")


def signature(thing: Any, doc: str, method: bool) -> str:
    """``(a, b=1)``: from ``__text_signature__``, else from a docstring starting ``name(a)``."""
    text = getattr(thing, "__text_signature__", None)
    if text:
        first = SUPPLIED if method else re.compile(r"\(\$\w+(, /)?(, )?")
        return first.sub("(", text, count=1).replace("<unrepresentable>", "...")
    name = re.escape(getattr(thing, "__name__", "?"))
    match = re.match(rf"(?:\w+\.)?{name}(\([^()]*(?:\([^()]*\)[^()]*)*\))", doc)
    return " ".join(match.group(1).split()) if match else ""


def docstring(thing: Any) -> str:
    """The cleaned docstring, empty where there is none."""
    text = getattr(thing, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) else ""


def function(thing: Any, key: str, kind: str) -> dict[str, Any]:
    """One function, method or property."""
    doc = docstring(thing)
    shown = "" if kind == "property" else signature(thing, doc, kind == "method")
    return {"key": key, "kind": kind, "signature": shown, "doc": doc}


def class_(thing: type, key: str) -> dict[str, Any]:
    """One class with its public members; inherited ones belong to the bases."""
    members: dict[str, Any] = {}
    for name, member in sorted(vars(thing).items()):
        if name.startswith("_"):
            continue
        if isinstance(member, PROPERTIES):
            members[name] = function(member, f"{key}.{name}", "property")
        elif isinstance(member, staticmethod | classmethod):
            members[name] = function(member.__func__, f"{key}.{name}", "method")
        elif inspect.isroutine(member):
            members[name] = function(member, f"{key}.{name}", "method")
    doc = docstring(thing)
    if thing.__doc__ is not None and thing.__doc__ == getattr(thing.__base__, "__doc__", None):
        doc = ""
    bases = [f"{base.__module__}.{base.__qualname__}" for base in thing.__bases__]
    return {
        "key": key,
        "kind": "class",
        "signature": signature(thing, doc, False),
        "doc": doc,
        "members": members,
        "bases": [base for base in bases if base != "builtins.object"],
    }


def module(thing: ModuleType) -> dict[str, Any]:
    """One module: the functions and classes among its public names."""
    names: dict[str, Any] = {}
    for name in sorted(vars(thing)):
        value = getattr(thing, name)
        home = getattr(value, "__module__", None) or thing.__name__
        if name.startswith("__"):
            continue
        if isinstance(value, type):
            names[name] = class_(value, f"{home}.{value.__qualname__}")
        elif isinstance(value, BuiltinFunctionType):
            names[name] = function(value, f"{home}.{value.__name__}", "function")
    summary = docstring(thing).partition("\n\n")[0]
    return {"summary": " ".join(summary.split()), "names": names}


def main() -> None:
    """Answer the one request."""
    answer = {}
    for name in json.load(sys.stdin)["modules"]:
        try:
            answer[name] = module(importlib.import_module(name))
        except ImportError:  # not built on this platform
            continue
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
