"""Which small mistakes ``tests.mutation`` plants: one change of the source at a time.

Left out, because no caller could tell or nothing depends on it: docstrings, annotations, imports,
the arguments of ``@dataclass``, ``strict=`` of ``zip``, and the wording of messages (texts with a
blank in them, f-strings, whatever is said in ``raise`` and to the log). Of SQL the operators are
changed, in plain texts and in f-strings.
"""

import ast
import copy
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

_OPERATORS: dict[type, Any] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
_SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|PRAGMA|ORDER BY|WHERE|CREATE|CASE)\b")
_IN_SQL = (
    (r" AND ", " OR "), (r" OR (?!REPLACE|IGNORE)", " AND "), (r"IS NOT NULL", "IS NULL"),
    (r"IS NULL", "IS NOT NULL"), (r"<=", "<"), (r">=", ">"), (r"(?<= )<(?= )", "<="),
    (r"(?<= )>(?= )", ">="), (r"(?<=[a-z] )= (?=[?p1])", "<> "), (r"\bDESC\b", "ASC"),
    (r"\bASC\b", "DESC"), (r" ORDER BY [a-z.]+(, [a-z.]+)?", ""), (r"\bmax\(", "min("),
    (r"DISTINCT ", ""), (r"UNION ALL", "UNION"), (r" NOT INDEXED", ""), (r"LEFT JOIN", "JOIN"),
    (r"CROSS JOIN", "LEFT JOIN"), (r"(?<=PRAGMA )([a-z_]+ = )[0-9]+", r"\g<1>77"),
    (r"OR (REPLACE|IGNORE) ", ""), (r"NULLS", "NULL"), (r"(?<=ord = )1", "2"),
    (r"(?<=LIMIT )1", "2"), (r"(?<=truncated = )1", "0"), (r"UNIQUE ", ""),
    (r" AUTOINCREMENT", ""), (r"(?<=INTEGER) NOT NULL", ""), (r"coalesce\((.*?), 0\)", r"\1"),
)  # fmt: skip
_QUIET_CALLS = ("log.", "logging.")


class Mutant(NamedTuple):
    """``text`` takes the place of the bytes ``start`` to ``stop`` of a file; ``lines`` run it."""

    path: str
    start: int
    stop: int
    text: str
    lines: tuple[int, ...]

    def applied(self, source: bytes) -> bytes:
        """The file with the mistake in it."""
        return source[: self.start] + self.text.encode() + source[self.stop :]


def mutants_of(path: str, source: bytes) -> list[Mutant]:
    """Every mutant of a file, in the order of the text; each can be parsed."""
    finder = _Finder(path, source)
    finder.look(ast.parse(source), (), False)
    found = {(m.start, m.stop, m.text): m for m in finder.found if _parses(m.applied(source))}
    return sorted(found.values())


def _parses(source: bytes) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


class _Finder:
    def __init__(self, path: str, source: bytes) -> None:
        self.path, self.source = path, source
        self.found: list[Mutant] = []
        self._at = [0]
        for line in source.splitlines(keepends=True):
            self._at.append(self._at[-1] + len(line))

    def look(self, node: ast.AST, lines: tuple[int, ...], quiet: bool) -> None:
        """Walk a tree; ``lines`` run it, and none of its texts matter where it is ``quiet``."""
        if _is_left_out(node) or (quiet and isinstance(node, ast.JoinedStr)):
            return
        if isinstance(node, ast.stmt):
            lines = _lines_of(node)
            self._statements(node, lines)
        quiet = quiet or isinstance(node, ast.Raise) or _is_quiet_call(node)
        if isinstance(node, ast.expr):
            for text in _replacements(node, quiet, self._text(node)):
                self._add(node, text, lines)
        for name, child in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "format_spec"):
                continue
            if isinstance(node, ast.keyword) and node.arg == "strict":
                continue
            for own in child if isinstance(child, list) else [child]:
                if isinstance(own, ast.AST) and not _is_text_alone(own):
                    self.look(own, lines, quiet)

    def _statements(self, node: ast.stmt, lines: tuple[int, ...]) -> None:
        if isinstance(node, (ast.AugAssign, ast.Delete, ast.Raise)) or _is_call_or_store(node):
            self._add(node, "pass", lines)
        if isinstance(node, ast.Continue):
            self._add(node, "break", lines)
        if isinstance(node, ast.Return) and not isinstance(node.value, (ast.Constant, type(None))):
            self._add(node, "return None", lines)
        if isinstance(node, (ast.If, ast.While)) and not _negated_anyway(node.test):
            self._add(node.test, f"not ({self._text(node.test)})", lines)
        if isinstance(node, ast.Try):
            for handler in node.handlers:
                if isinstance(handler.type, ast.Tuple):
                    for gone in handler.type.elts:
                        names = [self._text(e) for e in handler.type.elts if e is not gone]
                        self._add(handler.type, f"({', '.join(names)},)", _lines_of(node.body[0]))

    def _text(self, node: ast.AST) -> str:
        start, stop = self._span(node)
        return self.source[start:stop].decode()

    def _span(self, node: ast.AST) -> tuple[int, int]:
        assert isinstance(node, (ast.expr, ast.stmt))
        stop = self._at[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        return self._at[node.lineno - 1] + node.col_offset, stop

    def _add(self, node: ast.AST, text: str, lines: tuple[int, ...]) -> None:
        start, stop = self._span(node)
        before = self.source[start:stop].decode()
        if before != text and _is_whole(node, before):
            self.found.append(Mutant(self.path, start, stop, text, lines))


def _is_whole(node: ast.AST, text: str) -> bool:
    """Inside f-strings Python 3.11 does not always know where an expression is."""
    if isinstance(node, ast.stmt):
        return True
    try:
        own = ast.parse(f"({text})", mode="eval").body
    except SyntaxError:
        return False
    return ast.dump(own) == ast.dump(node)


def _lines_of(node: ast.stmt) -> tuple[int, ...]:
    """The lines that run a statement; of a compound one its first, of a definition its body."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return tuple(range(node.lineno + 1, (node.end_lineno or 0) + 1))
    if hasattr(node, "body"):
        return tuple(range(node.lineno, node.body[0].lineno))
    return tuple(range(node.lineno, (node.end_lineno or 0) + 1))


def _is_left_out(node: ast.AST) -> bool:
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    return isinstance(node, (ast.Import, ast.ImportFrom))


def _is_text_alone(node: ast.AST) -> bool:
    """A docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_quiet_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).startswith(_QUIET_CALLS)


def _is_call_or_store(node: ast.stmt) -> bool:
    """A statement whose effect, not whose name, is used later."""
    if isinstance(node, ast.Assign):
        return not isinstance(node.targets[0], (ast.Name, ast.Tuple))
    return isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)


def _negated_anyway(test: ast.expr) -> bool:
    """Whether another mutant does the same as negating this condition."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return isinstance(test.ops[0], (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn))
    return isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)


def _replacements(node: ast.expr, quiet: bool, text: str) -> Iterator[str]:
    if isinstance(node, ast.Compare):
        yield from _other_comparisons(node)
    elif isinstance(node, (ast.BinOp, ast.BoolOp)):
        if type(node.op) in _OPERATORS and not _joins_texts(node):
            changed = copy.copy(node)
            changed.op = _OPERATORS[type(node.op)]()
            yield f"({ast.unparse(changed)})"
    elif isinstance(node, ast.UnaryOp):
        yield f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.IfExp):
        yield f"({ast.unparse(ast.IfExp(node.test, node.orelse, node.body))})"
    elif isinstance(node, (ast.JoinedStr, ast.Constant)):
        yield from _other_values(node, quiet, text)


def _other_comparisons(node: ast.Compare) -> Iterator[str]:
    for number, op in enumerate(node.ops):
        if type(op) in _OPERATORS:
            ops = list(node.ops)
            ops[number] = _OPERATORS[type(op)]()
            yield f"({ast.unparse(ast.Compare(node.left, ops, node.comparators))})"


def _other_values(node: ast.JoinedStr | ast.Constant, quiet: bool, text: str) -> Iterator[str]:
    value = node.value if isinstance(node, ast.Constant) else ""
    if isinstance(value, str) and _SQL.search(text):
        yield from _changed_sql(text)
    elif quiet or isinstance(node, ast.JoinedStr):
        return
    elif isinstance(value, str) and " " not in value:
        yield '"XX"'
    elif isinstance(value, bool):
        yield str(not value)
    elif isinstance(value, (int, float)):
        yield repr(value + 1)
        yield repr(value - 1)
    elif isinstance(value, bytes):
        yield repr(value + b"X")


def _joins_texts(node: ast.AST) -> bool:
    kinds = (ast.JoinedStr, ast.Constant)
    texts = [n for n in ast.walk(node) if isinstance(n, kinds) and not _is_number(n)]
    return bool(texts) and isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and not isinstance(node.value, str)


def _changed_sql(text: str) -> Iterator[str]:
    for pattern, new in _IN_SQL:
        for match in re.finditer(pattern, text):
            yield text[: match.start()] + match.expand(new) + text[match.end() :]
