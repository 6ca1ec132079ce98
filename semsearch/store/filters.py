"""Metadata filters: a typed tree, parsed once, evaluated in Python or through the field index.

Semantics: a missing field, or a value of another type, matches nothing (``!=`` included); a list
matches if any element does; objects never match. Numbers compare with numbers, text with text by
code point, booleans and null only with ``=`` and ``!=``.
"""

from __future__ import annotations

import json
import operator
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from semsearch.errors import UsageError
from semsearch.types import Metadata

Scalar: TypeAlias = str | int | float | bool | None

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_EXPRESSION = re.compile(
    r"\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*(<=|>=|!=|=|<|>|\bin\b)\s*(.*?)\s*", re.S
)
_LONGEST_INDEXED = 256  # characters; longer texts are compared from the document itself
_MOST_TERMS = 256


@dataclass(frozen=True, slots=True)
class Condition:
    """``field op values``; several values (operator ``in``) match if any of them is equal."""

    field: str
    op: str
    values: tuple[Scalar, ...]


Filter: TypeAlias = tuple[Condition, ...]
"""Conditions that must all hold; the empty filter keeps everything."""


def parse_filter(expressions: Sequence[str]) -> Filter:
    """Parse expressions such as ``year>=2020`` or ``lang in en,de``. Raises UsageError."""
    return tuple(parse_condition(expression) for expression in expressions)


def parse_condition(expression: str) -> Condition:
    """Parse one expression; values are JSON scalars, else text. Raises UsageError."""
    match = _EXPRESSION.fullmatch(expression)
    if match is None:
        raise UsageError(
            f"filter {expression!r}: expected FIELD OP VALUE with OP one of = != < <= > >= in, "
            "for example 'year>=2020' or 'lang in en,de'"
        )
    name, op, rest = match.groups()
    if not rest:
        raise UsageError(f"filter {expression!r}: the value is missing")
    parts = rest.split(",") if op == "in" else [rest]
    if len(parts) > _MOST_TERMS:
        raise UsageError(f"filter on {name}: more than {_MOST_TERMS} values")
    values = tuple(_scalar(part.strip()) for part in parts)
    if op in ("<", "<=", ">", ">=") and kind_of(values[0]) not in ("number", "text"):
        raise UsageError(f"filter {expression!r}: {op} needs a number or a text")
    return Condition(name, op, values)


def _scalar(text: str) -> Scalar:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if kind_of(value) is None or (isinstance(value, int) and not -(2**63) <= value < 2**63):
        return text
    return value  # type: ignore[no-any-return]


def kind_of(value: Any) -> str | None:
    """``number``, ``text``, ``bool`` or ``null``; None for lists, objects and NaN or infinity."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number" if value - value == 0 else None
    return "text" if isinstance(value, str) else None


def matches(metadata: Metadata, conditions: Filter) -> bool:
    """Whether a document's metadata satisfies every condition."""
    return all(_matches(metadata, condition) for condition in conditions)


def _matches(metadata: Metadata, condition: Condition) -> bool:
    if condition.field not in metadata:
        return False
    value = metadata[condition.field]
    compare = _OPERATORS["=" if condition.op == "in" else condition.op]
    return any(
        kind_of(element) == kind_of(wanted)
        and kind_of(wanted) is not None
        and compare(element, wanted)
        for element in (value if isinstance(value, list) else [value])
        for wanted in condition.values
    )


def field_rows(metadata: Metadata, doc_id: int) -> Iterator[tuple[str, str, Scalar, int]]:
    """What the field index holds for a document: (key, kind, value, doc_id)."""
    for key, value in metadata.items():
        for element in value if isinstance(value, list) else [value]:
            kind = kind_of(element)
            if kind == "text" and len(element) > _LONGEST_INDEXED:
                yield key, "long", "", doc_id
            elif kind == "null":
                yield key, kind, "", doc_id
            elif kind is not None:
                yield key, kind, element, doc_id


def documents_matching(
    connection: sqlite3.Connection, conditions: Filter, limit: int
) -> list[int] | None:
    """Row ids of the documents (dead ones included) that match, ascending.

    None when even the most selective condition keeps more than ``limit`` documents.
    """
    best: set[int] | None = None
    rest: list[Condition] = []
    for condition in conditions:
        found = _lookup(connection, condition, limit if best is None else len(best))
        if found is None:
            rest.append(condition)
        elif best is None or len(found) <= len(best):
            best = found if best is None else best & found
        else:
            best &= found
    if best is None:
        return None
    if rest and best:
        best = {doc for doc, meta in _metadata(connection, best) if matches(meta, tuple(rest))}
    return sorted(best)


def _lookup(connection: sqlite3.Connection, condition: Condition, limit: int) -> set[int] | None:
    op = "=" if condition.op == "in" else condition.op
    found: set[int] = set()
    for wanted in condition.values:
        rows = connection.execute(
            f"SELECT doc_id FROM field WHERE key = ? AND kind = ? AND value {op} ? LIMIT ?",
            (condition.field, kind_of(wanted), "" if wanted is None else wanted, limit + 1),
        ).fetchall()
        found.update(doc_id for (doc_id,) in rows)
        if len(rows) > limit:
            return None
    found |= _long_texts(connection, condition)
    return found if len(found) <= limit else None


def _long_texts(connection: sqlite3.Connection, condition: Condition) -> set[int]:
    if not any(kind_of(wanted) == "text" for wanted in condition.values):
        return set()
    rows = connection.execute(
        "SELECT doc_id FROM field WHERE key = ? AND kind = 'long'", (condition.field,)
    )
    documents = {doc_id for (doc_id,) in rows}
    return {doc for doc, meta in _metadata(connection, documents) if matches(meta, (condition,))}


def _metadata(
    connection: sqlite3.Connection, documents: set[int]
) -> Iterator[tuple[int, Metadata]]:
    cursor = connection.execute(
        "SELECT doc_id, meta FROM document WHERE doc_id IN (SELECT value FROM json_each(?))",
        (json.dumps(sorted(documents)),),
    )
    for doc_id, meta in cursor:
        yield doc_id, json.loads(meta)
