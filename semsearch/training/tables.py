"""Plain tables (as TOML has them) to frozen dataclasses and back; what is unknown is refused."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from semsearch.errors import SemsearchError

Record = TypeVar("Record")

_LARGEST = 10**300
"""Beyond, a whole number is no float."""


class TableError(SemsearchError):
    """A key that is unknown, missing or of the wrong kind, in the table ``where``."""

    def __init__(self, where: str, key: str, problem: str) -> None:
        super().__init__(f"{where}{key}: {problem}")
        self.where = where
        self.key = key


def from_table(kind: type[Record], table: Mapping[str, Any], where: str = "") -> Record:
    """A record of ``kind`` from a table; ``where`` is the name of the table in messages.

    Raises TableError: a key that the record does not have (the nearest one is named), one that it
    needs, a value of another type or choice.
    """
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            near = get_close_matches(key, known, 1)
            advice = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise TableError(where, key, f"unknown key: {advice}")
    for key, item in known.items():
        needed = item.default is MISSING and item.default_factory is MISSING
        if needed and key not in table:
            raise TableError(where, key, "is missing")
    return kind(**{key: _value(hints[key], value, where, key) for key, value in table.items()})


def to_table(record: Any) -> dict[str, Any]:
    """The table that ``from_table`` makes the same record of; what is None is left out."""
    found = {item.name: getattr(record, item.name) for item in fields(record)}
    return {key: _plain(value) for key, value in found.items() if value is not None}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_table(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def _value(hint: Any, value: Any, where: str, key: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _one_of(get_args(hint), value, where, key)
    if isinstance(hint, type) and is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise TableError(where, key, f"expected a table [{where}{key}]")
        return from_table(hint, value, f"{where}{key}.")
    if origin is tuple and isinstance(value, list):
        [inner, _] = get_args(hint)
        several = len(value) > 1 and is_dataclass(inner)
        names = [f"{key}[{n}]" if several else key for n in range(1, len(value) + 1)]
        return tuple(
            _value(inner, item, where, name) for item, name in zip(value, names, strict=True)
        )
    if origin is None and hint is float and type(value) is int and abs(value) < _LARGEST:
        return float(value)
    if not _fits(hint, origin, value):
        raise TableError(where, key, f"expected {_named(hint)}, found {value!r}")
    return value


def _fits(hint: Any, origin: Any, value: Any) -> bool:
    """Whether a plain value, a choice, or a mapping of texts is what the hint says."""
    if origin is None:
        return type(value) is hint and (hint is not float or math.isfinite(value))
    if origin is Literal:
        return value in get_args(hint)
    if origin is tuple:
        return False  # a list was looked at before
    return isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values())


def _one_of(hints: tuple[Any, ...], value: Any, where: str, key: str) -> Any:
    """The first kind that fits; a table is only tried as the record that it may be."""
    several = [hint for hint in hints if hint is not type(None)]
    for hint in several[:-1]:
        try:
            return _value(hint, value, where, key)
        except TableError:
            continue
    return _value(several[-1], value, where, key)


def _named(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list, each {_named(get_args(hint)[0])}"
    if isinstance(hint, type) and is_dataclass(hint):
        return "a table in double brackets"
    names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(hint, "a table of texts")
