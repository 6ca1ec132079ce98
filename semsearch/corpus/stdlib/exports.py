"""Compute ``__all__`` from the statements that build it, as far as they are literal."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable

from semsearch.corpus.stdlib.source import dotted

Lookup = Callable[[str], list[str] | None]
"""The exports of the module that a dotted name (``tasks``) stands for, None if unknown."""


class Exports:
    """The names in ``__all__`` (None: never assigned) and whether some could not be computed."""

    def __init__(self, lookup: Lookup) -> None:
        self.names: list[str] | None = None
        self.open = False
        self._lookup = lookup
        self._lists: dict[str, list[str]] = {}

    def read(self, statements: Iterable[ast.stmt]) -> None:
        """Follow the statements in order."""
        for node in statements:
            if isinstance(node, ast.Assign):
                self._assign(node)
            elif isinstance(node, ast.AugAssign):
                self._extend(node.value)
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                self._call(node.value)
        if not self.names and self.open:
            self.names = None

    def _assign(self, node: ast.Assign) -> None:
        value = self._value(node.value)
        for target in node.targets:
            name = dotted(target)
            if name == "__all__":
                self.names = []
                self._extend(node.value)
            elif name and value is not None:
                self._lists[name] = value

    def _call(self, call: ast.Call) -> None:
        verb = dotted(call.func).rpartition(".")[2]
        argument = call.args[0] if call.args else None
        if verb == "extend" and argument is not None:
            self._extend(argument)
        elif isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            if verb == "append":
                self._add([argument.value])
            elif verb == "remove" and argument.value in (self.names or []):
                self._add([], drop=argument.value)

    def _extend(self, value: ast.expr) -> None:
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
            self._extend(value.left)
            self._extend(value.right)
            return
        names = self._value(value)
        if names is None:
            self.open = True
        else:
            self._add(names)

    def _add(self, names: list[str], drop: str = "") -> None:
        known = [*(self.names or []), *names]
        self.names = [name for name in dict.fromkeys(known) if name != drop]

    def _value(self, node: ast.expr) -> list[str] | None:
        """A list of names, None if it is not literal."""
        if isinstance(node, ast.List | ast.Tuple):
            texts = [e.value for e in node.elts if isinstance(e, ast.Constant)]
            names = [text for text in texts if isinstance(text, str)]
            return names if len(names) == len(node.elts) else None
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left, right = self._value(node.left), self._value(node.right)
            return None if left is None or right is None else left + right
        if isinstance(node, ast.Call) and dotted(node.func) in ("list", "tuple", "sorted"):
            return self._value(node.args[0]) if node.args else []
        name = dotted(node)
        if name.endswith(".__all__"):
            return self._lookup(name.removesuffix(".__all__"))
        return self._lists.get(name)
