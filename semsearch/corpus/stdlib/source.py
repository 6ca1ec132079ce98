"""Read one module's source into a scope, by its syntax tree alone: nothing is imported."""

from __future__ import annotations

import ast
import inspect
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from semsearch.corpus.stdlib.records import (
    Alias,
    Binding,
    Import,
    Kind,
    Module,
    Scope,
    Thing,
)
from semsearch.corpus.stdlib.signatures import signature

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

PROPERTIES = {
    "property", "cached_property", "abstractproperty", "DynamicClassAttribute", "getter",
}  # fmt: skip
NOT_DEFINITIONS = {"setter", "deleter", "overload", "register"}


def scan(name: str, file: Path, package: bool) -> tuple[Module, list[ast.stmt]]:
    """The module in ``file`` and the statements that build its ``__all__``, in order."""
    tree = ast.parse(file.read_bytes(), filename=str(file))
    summary = re.sub(r"([~=-])\1{2,}", "", (ast.get_docstring(tree) or "").partition("\n\n")[0])
    module = Module(name, " ".join(summary.split()), Scope(), package, file=str(file))
    reader = _Reader(module)
    reader.read(tree.body, _Body(module.scope, name))
    return module, reader.exports


def dotted(node: ast.expr | None) -> str:
    """``a.b.c`` for a chain of attributes of a name, else empty."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""


def decide(test: ast.expr) -> bool | None:
    """The value of a condition about the platform or type checking, None if unknown."""
    text = ast.unparse(test)
    if text in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'"):
        return False
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = decide(test.operand)
        return None if inner is None else not inner
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return None
    left, operation, right = test.left, test.ops[0], test.comparators[0]
    if isinstance(operation, ast.In) and dotted(right) in ("_names", "sys.builtin_module_names"):
        return isinstance(left, ast.Constant) and left.value in sys.builtin_module_names
    facts = {"sys.platform": sys.platform, "os.name": os.name, "name": os.name}
    fact = facts.get(dotted(left))
    if fact is not None and isinstance(right, ast.Constant):
        if isinstance(operation, ast.Eq):
            return fact == right.value
        if isinstance(operation, ast.NotEq):
            return fact != right.value
    return None


@dataclass(frozen=True, slots=True)
class _Body:
    """Where statements stand: the scope they bind in, its dotted path, and what they are part of.

    ``weak``: inside an ``except`` clause; ``cls``: in the body of a class.
    """

    scope: Scope
    path: str
    cls: bool = False
    weak: bool = False

    def bind(self, name: str, binding: Binding) -> None:
        self.scope.bind(name, binding, self.weak)


class _Reader:
    """Walks the bodies of one module and of its classes."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.exports: list[ast.stmt] = []

    def read(self, statements: Iterable[ast.stmt], body: _Body) -> None:
        """Bind what ``statements`` define."""
        for node in statements:
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    self.function(node, body)
                case ast.ClassDef():
                    self.class_(node, body)
                case ast.Import() | ast.ImportFrom():
                    self.imports(node, body)
                case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.Expr():
                    self.assign(node, body)
                case ast.If() | ast.Try() | ast.With():
                    self.branches(node, body)

    def branches(self, node: ast.If | ast.Try | ast.With, body: _Body) -> None:
        """Every branch that may run; ``except`` clauses bind weakly."""
        if isinstance(node, ast.If):
            value = decide(node.test)
            self.read(node.body if value is not False else [], body)
            self.read(node.orelse if value is not True else [], body)
            return
        self.read(node.body, body)
        if isinstance(node, ast.Try):
            for handler in node.handlers:
                self.read(handler.body, replace(body, weak=True))
            self.read([*node.orelse, *node.finalbody], body)

    def function(self, node: Function, body: _Body) -> None:
        marks = {_last(decorator) for decorator in node.decorator_list}
        if marks & NOT_DEFINITIONS:
            return
        kind: Kind = "function"
        if body.cls:
            kind = "property" if marks & PROPERTIES else "method"
        shown = "" if kind == "property" else signature(node, body.cls)
        if not body.cls and node.args.args[:1] and node.args.args[0].arg == "self":
            shown = ""  # a special form of typing: called with brackets, not parentheses
        key, doc = f"{body.path}.{node.name}", ast.get_docstring(node) or ""
        body.bind(node.name, Thing(key, kind, self.module.name, shown, doc, node.lineno))

    def class_(self, node: ast.ClassDef, body: _Body) -> None:
        key, inner = f"{body.path}.{node.name}", Scope()
        self.read(node.body, _Body(inner, key, cls=True))
        bases = tuple(filter(None, map(dotted, node.bases)))
        doc = ast.get_docstring(node) or ""
        thing = Thing(key, "class", self.module.name, "", doc, node.lineno, inner, bases)
        for _, _, binding in inner.entries.pop("__doc__", []):
            if isinstance(binding, Alias):
                thing.doc_from = binding.path.removesuffix(".__doc__")
        body.bind(node.name, thing)

    def imports(self, node: ast.Import | ast.ImportFrom, body: _Body) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                body.bind(alias.asname or top, Import(alias.name if alias.asname else top))
            return
        origin = self.origin(node)
        for alias in node.names:
            if alias.name == "*":
                body.scope.star(origin, body.weak)
            else:
                body.bind(alias.asname or alias.name, Import(origin, alias.name))

    def origin(self, node: ast.ImportFrom) -> str:
        """The absolute name of the module that a ``from`` import names."""
        if not node.level:
            return node.module or ""
        parts = self.module.name.split(".")
        drop = node.level - 1 if self.module.package else node.level
        parts = parts[: len(parts) - drop]
        return ".".join([*parts, *filter(None, [node.module])])

    def assign(
        self, node: ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Expr, body: _Body
    ) -> None:
        if not body.cls and _touches_all(node):
            self.exports.append(node)
        if isinstance(node, ast.Expr | ast.AugAssign) or node.value is None:
            return
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Attribute) and target.attr == "__doc__":
                self.doc(dotted(target.value), node.value, body)
            for name, value in _pairs(target, node.value):
                self.value(name, value, body)

    def value(self, name: str, value: ast.expr, body: _Body) -> None:
        if path := dotted(value):
            body.bind(name, Alias(path))
        elif isinstance(value, ast.Call) and (path := dotted(value.func)):
            made = self.property_(name, value, body) if path == "property" else Alias(path, True)
            body.bind(name, made)

    def doc(self, name: str, value: ast.expr, body: _Body) -> None:
        """``name.__doc__ = other.__doc__``."""
        for _, _, binding in body.scope.entries.get(name, []):
            if isinstance(binding, Thing) and dotted(value).endswith(".__doc__"):
                binding.doc_from = dotted(value).removesuffix(".__doc__")

    def property_(self, name: str, call: ast.Call, body: _Body) -> Thing:
        """``name = property(get, set, delete, "doc")``; the getter's docstring serves too."""
        docs = [*call.args[3:4], *(k.value for k in call.keywords if k.arg == "doc")]
        doc = ""
        if docs and isinstance(docs[0], ast.Constant) and isinstance(docs[0].value, str):
            doc = inspect.cleandoc(docs[0].value)
        elif not docs and call.args:
            for _, _, getter in body.scope.entries.get(dotted(call.args[0]), []):
                doc = getter.doc if isinstance(getter, Thing) else doc
        return Thing(f"{body.path}.{name}", "property", self.module.name, "", doc, call.lineno)


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[str, ast.expr]]:
    """The (name, value) pairs of one assignment, ``a, b = x, y`` included."""
    if isinstance(target, ast.Name):
        return [(target.id, value)]
    if not isinstance(target, ast.Tuple) or not isinstance(value, ast.Tuple):
        return []
    if len(target.elts) != len(value.elts):
        return []
    both = zip(target.elts, value.elts, strict=True)
    return [pair for left, right in both for pair in _pairs(left, right)]


def _last(decorator: ast.expr) -> str:
    return dotted(decorator.func if isinstance(decorator, ast.Call) else decorator).split(".")[-1]


def _touches_all(node: ast.stmt) -> bool:
    """Whether a statement assigns or extends ``__all__`` or another list of names."""
    if isinstance(node, ast.Expr):
        call = node.value
        return isinstance(call, ast.Call) and dotted(call.func).startswith("__all__.")
    if isinstance(node, ast.Assign):
        return any(isinstance(t, ast.Name) for t in node.targets) and isinstance(
            node.value, ast.List | ast.Tuple | ast.BinOp | ast.ListComp | ast.Attribute | ast.Call
        )
    return isinstance(node, ast.AugAssign) and dotted(node.target) == "__all__"
