"""What the rows of a catalog may hold: a checksum that fits says nothing about who made it.

SQLite lets any column hold any type, and whoever makes an index makes its checksums, too. So what
is read is looked at once, here, and nothing behind has to.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

_WIDEST = 1 << 20
"""Dimensions of a vector. Models have thousands; nothing larger is made room for."""

_MOST = 1 << 62
"""What a number counts is below this, so that what is added to it still fits SQLite."""

_KINDS = {"i": (int,), "t": (str,), "b": (bytes,), "I": (int, type(None)), "T": (str, type(None)),
          "B": (bytes, type(None))}  # fmt: skip
_COLUMNS = {
    "meta": "tt", "encoder": "ittTittitt", "rotation": "iiiib", "generation": "iiiii",
    "source": "tTi", "document": "itttttbi", "passage": "iiiiibiiii", "segment": "ittiiiiITTi",
    "l0": "iiIbB", "cache": "ttttti",
}  # fmt: skip
_TYPES = {
    table: frozenset(product(*(_KINDS[letter] for letter in letters)))
    for table, letters in _COLUMNS.items()
}
"""The types of every column but ``deleted_gen`` and the checksum; capitals may be NULL."""

_NUMBERS = ("active_encoder", "active_rotation", "dims", "era", "horizon", "served", "swapped",
            "token_width")  # fmt: skip
_OBJECTS = ("followed", "reading")


def fits(table: str, values: Sequence[Any]) -> bool:
    """Whether a row, without its checksum, is one that a writer could have written."""
    if tuple(map(type, values)) not in _TYPES[table]:
        return False
    check = _CONTENTS.get(table)
    return check is None or bool(check(values))


def parsed(text: object, kind: type) -> Any:
    """What JSON says, if it is of this type; else None."""
    try:
        value = json.loads(text)  # type: ignore[arg-type]
    except (TypeError, ValueError, RecursionError):  # a column may have become a number
        return None
    return value if type(value) is kind else None


def _counts(numbers: Sequence[Any]) -> bool:
    return all(type(number) is int and 0 <= number < _MOST for number in numbers)


def _meta(row: Sequence[Any]) -> bool:
    key: str = row[0]
    value: str = row[1]
    if key in _NUMBERS:
        return value.isascii() and value.isdecimal() and int(value[:20]) < _MOST
    if key == "recall_target":
        try:
            return 0 <= float(value) <= 1
        except ValueError:
            return False
    return key not in _OBJECTS or parsed(value, dict) is not None


def _encoder(row: Sequence[Any]) -> bool:
    declared, prompts = parsed(row[5], list), parsed(row[6], dict)
    if declared is None or prompts is None or not _counts([row[0], row[4], row[7], *declared]):
        return False
    return 0 < row[4] <= _WIDEST and all(isinstance(text, str) for text in prompts.values())


def _rotation(row: Sequence[Any]) -> bool:
    dim: int = row[3]
    return 0 < dim <= _WIDEST and len(row[4]) == 4 * dim * dim


def _passage(row: Sequence[Any]) -> bool:
    return bool(0 <= row[3] <= row[4])


def _segment(row: Sequence[Any]) -> bool:
    _, _, _, count, first, last, *_ = row
    counts = _counts([row[0], count, first, last, row[6], row[10]])
    return counts and bool(0 < count <= last - first + 1)


def _cache(row: Sequence[Any]) -> bool:
    _, kind, *texts, _ = row
    files, covers, params = (parsed(text, dict) for text in texts)
    if files is None or covers is None or params is None:
        return False
    if kind not in ("faiss", "lexical"):
        return True  # a check tells of it
    if kind == "lexical":
        files = files.get("files")
    return isinstance(files, dict) and all(isinstance(digest, str) for digest in files.values())


def covers_fit(covers: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Whether these are the records of a FAISS file: one that they are not of is not opened."""
    recalls, target = params.get("recalls"), params.get("target", 1.0)
    if not _counts([covers.get("n"), covers.get("last_vid")]) or not covers["n"]:
        return False
    if not isinstance(params.get("index"), dict) or not isinstance(recalls, list):
        return False
    pairs = [pair for pair in recalls if isinstance(pair, list) and len(pair) == 2]
    numbers = all(_counts(pair[:1]) and isinstance(pair[1], (int, float)) for pair in pairs)
    return len(pairs) == len(recalls) and numbers and isinstance(target, (int, float))


_CONTENTS: dict[str, Callable[[Sequence[Any]], bool]] = {
    "meta": _meta,
    "encoder": _encoder,
    "rotation": _rotation,
    "generation": _counts,
    "passage": _passage,
    "segment": _segment,
    "l0": lambda row: len(row[3]) % 2 == 0,
    "cache": _cache,
}
