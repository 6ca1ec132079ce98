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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias

from semsearch.errors import SEE_CHECK, Corrupt, UsageError
from semsearch.store.rows import is_utf8
from semsearch.store.shapes import parsed
from semsearch.types import Metadata

Scalar: TypeAlias = str | int | float | bool | None

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_EXPRESSION = re.compile(
    r"\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*(<=|>=|!=|=|<|>|\bin\b)\s*(.*?)\s*", re.S
)
_LONGEST_INDEXED = 256  # characters
_NOT_INDEXED = {"text": "long", "number": "huge"}
"""Long texts, and integers beyond SQLite's 64 bits, are compared from the document itself."""

_MOST_TERMS = 256


@dataclass(frozen=True, slots=True)
class Condition:
    """``field op values``; several values (operator ``in``) match if any of them is equal.

    Raises UsageError for an unknown operator, and for values that it cannot compare.
    """

    field: str
    op: str
    values: tuple[Scalar, ...]

    def __post_init__(self) -> None:
        if problem := _problem(self):
            raise UsageError(f"filter on {self.field!r}: {problem}")


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
    return Condition(name, op, tuple(_scalar(part.strip()) for part in parts))


def _problem(condition: Condition) -> str | None:
    op, values = condition.op, condition.values
    kinds = {kind_of(value) for value in values}
    if op != "in" and op not in _OPERATORS:
        return f"the operator must be one of {' '.join(_OPERATORS)} in, not {op!r}"
    if not values or (len(values) > 1 and op != "in"):
        return "in takes one value or more, every other operator exactly one"
    if len(values) > _MOST_TERMS:
        return f"more than {_MOST_TERMS} values"
    if None in kinds:
        return "values are texts, finite numbers, true, false or null"
    if op in ("<", "<=", ">", ">=") and not kinds <= {"number", "text"}:
        return f"{op} needs a number or a text"
    if any(not is_utf8(text) for text in (condition.field, *values) if isinstance(text, str)):
        return "a lone surrogate, which no document can hold"
    return None


def _scalar(text: str) -> Scalar:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if kind_of(value) is None else value


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
            if kind in _NOT_INDEXED and _is_big(element) and not isinstance(element, float):
                yield key, _NOT_INDEXED[kind], "", doc_id
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
        else:
            best = found if best is None else best & found
    if best is None:
        return None
    if rest and best:
        best = {doc for doc, meta in _metadata(connection, best) if matches(meta, tuple(rest))}
    return sorted(best)


def _lookup(connection: sqlite3.Connection, condition: Condition, limit: int) -> set[int] | None:
    op = "=" if condition.op == "in" else condition.op
    found: set[int] = set()
    for wanted in condition.values:
        if isinstance(wanted, int) and _is_big(wanted):
            continue
        # One row of JSON, and no search for doubles where there can be none: 10,000 documents in
        # 2.0 ms instead of 3.5, or 4.3 instead of 6.0 for a range.
        (documents,) = connection.execute(
            f"SELECT json_group_array(doc_id) FROM (SELECT {'' if op == '=' else 'DISTINCT'} doc_id"
            f" FROM field WHERE key = ? AND kind = ? AND value {op} ? LIMIT ?)",
            (condition.field, kind_of(wanted), "" if wanted is None else wanted, limit + 1),
        ).fetchone()
        found |= _row_ids(json.loads(documents))
        if len(found) > limit:
            return None
    found |= _compared(connection, condition)
    return found if len(found) <= limit else None


def _compared(connection: sqlite3.Connection, condition: Condition) -> set[int]:
    """The documents that match by values that the index does not hold."""
    documents: set[int] = set()
    for kind in sorted({kind for value in condition.values for kind in _unseen(condition, value)}):
        rows = connection.execute(
            "SELECT doc_id FROM field WHERE key = ? AND kind = ?", (condition.field, kind)
        )
        documents |= _row_ids(doc_id for (doc_id,) in rows)
    return {doc for doc, meta in _metadata(connection, documents) if matches(meta, (condition,))}


def _row_ids(found: Iterable[Any]) -> set[int]:
    """What a table without checksums says are numbers of documents. Raises Corrupt if not."""
    numbers = set(found)
    if not set(map(type, numbers)) <= {int}:
        raise Corrupt(f"catalog.db: rows of table field are damaged: {SEE_CHECK}")
    return numbers


def _unseen(condition: Condition, wanted: Scalar) -> Iterator[str]:
    """The kinds of rows that the index alone cannot compare with ``wanted``."""
    kind = kind_of(wanted)
    if kind in _NOT_INDEXED and (_is_big(wanted) or condition.op not in ("=", "in")):
        yield _NOT_INDEXED[kind]
    if isinstance(wanted, int) and _is_big(wanted):
        yield "number"


def _is_big(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) > _LONGEST_INDEXED
    return isinstance(value, (int, float)) and not -(2**63) <= value < 2**63


def _metadata(
    connection: sqlite3.Connection, documents: set[int]
) -> Iterator[tuple[int, Metadata]]:
    with closing(connection.cursor()) as cursor:
        cursor.execute(
            "SELECT doc_id, meta FROM document WHERE doc_id IN (SELECT value FROM json_each(?))",
            (json.dumps(sorted(documents)),),
        )
        for doc_id, meta in cursor:
            found = parsed(meta, dict)
            if found is None:
                message = f"catalog.db: the metadata of document row {doc_id} is damaged"
                raise Corrupt(f"{message}: {SEE_CHECK}")
            yield doc_id, found
