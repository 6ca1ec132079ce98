"""Signatures as text, from syntax trees."""

from __future__ import annotations

import ast
import re

LONGEST_DEFAULT = 24
LONGEST = 160


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef, method: bool) -> str:
    """``(a, *, b=1)``: no annotations, no ``self`` or ``cls``; long ones shortened."""
    args = node.args
    positional = [*args.posonlyargs, *args.args]
    padding: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults))
    parts = [
        _parameter(arg, default)
        for arg, default in zip(positional, [*padding, *args.defaults], strict=True)
    ]
    if args.posonlyargs:
        parts.insert(len(args.posonlyargs), "/")
    if method and positional and not _is_static(node):
        del parts[0]
        if parts[:1] == ["/"]:
            del parts[0]
    if args.vararg:
        parts.append(f"*{args.vararg.arg}")
    elif args.kwonlyargs:
        parts.append("*")
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        parts.append(_parameter(arg, default))
    if args.kwarg:
        parts.append(f"**{args.kwarg.arg}")
    return shorten("(" + ", ".join(parts) + ")")


def shorten(text: str) -> str:
    """Keep a signature under LONGEST characters: without its defaults, then without its end."""
    if len(text) <= LONGEST:
        return text
    text = re.sub(r"=[^=,()]*(?=[,)])", "", text)
    if len(text) <= LONGEST:
        return text
    return text[: text.rfind(", ", 0, LONGEST - 5)] + ", ...)"


def _parameter(arg: ast.arg, default: ast.expr | None) -> str:
    if default is None:
        return arg.arg
    value = ast.unparse(default)
    return f"{arg.arg}={value if len(value) <= LONGEST_DEFAULT else '...'}"


def _is_static(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
