"""From one record (a JSON object, a table row) to one Document: which field is what."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from semsearch.errors import InputError
from semsearch.types import Document

ID_FIELDS = ("_id", "id", "docid", "doc_id", "document_id")
TEXT_FIELDS = ("text", "contents", "body", "content", "document_text")
TITLE_FIELDS = ("title",)

MAX_DEPTH = 100
_SURROGATE = re.compile("[\ud800-\udfff]")
_JSON_TYPES = {
    "NoneType": "null",
    "bool": "true or false",
    "float": "a number with a fraction",
    "int": "a number",
    "list": "a list",
    "tuple": "a list",
    "dict": "an object",
    "str": "text",
}


class Names(NamedTuple):
    """Which of a record's fields hold the id, the text and the title; None where none does."""

    id: str | None
    text: str | None
    title: str | None


@dataclass(frozen=True, slots=True)
class Fields:
    """How records become documents; ``id`` and ``text`` override the usual field names.

    The usual names are tried in their order, first as written, then without regard to case.
    ``advice`` ends the message about a missing field; ``{}`` in it stands for ``id`` or ``text``.
    """

    id: str | None = None
    text: str | None = None
    usual_ids: tuple[str, ...] = ID_FIELDS
    usual_texts: tuple[str, ...] = TEXT_FIELDS
    advice: str = " (choose one with --{}-field)"

    def names(self, seen: Iterable[str]) -> Names:
        """Find the id, text and title among the field names ``seen``."""
        seen = list(seen)
        doc_id = _find(self.usual_ids, seen) if self.id is None else self.id
        text = _find(self.usual_texts, seen) if self.text is None else self.text
        title = _find(TITLE_FIELDS, [name for name in seen if name not in (doc_id, text)])
        return Names(doc_id if doc_id in seen else None, text if text in seen else None, title)

    def document(self, record: Mapping[str, object], source: str, line: int) -> Document:
        """Make a document of a record.

        Integer ids become text. Every other field is metadata; an object-valued ``metadata`` field
        is merged into it, and a field of the record itself wins over one in there. NUL and lone
        surrogates, which no UTF-8 text can hold, become U+FFFD in title, text and metadata; in an
        id they are refused. Raises InputError: no id or no text field, an id that is neither text
        nor a whole number or is blank, a text or title of another type (null is empty text), and in
        metadata numbers that are not finite or not within 64 bits and nesting over 100 levels.
        """
        names = self.names(record)
        if names.id is None or names.text is None:
            raise self.missing(record, source, line)
        title = "" if names.title is None else record[names.title]
        rest = {key: value for key, value in record.items() if key not in names}
        return Document(
            id=document_id(record[names.id], source, line),
            text=_content(record[names.text], names.text, source, line),
            title=_content(title, names.title or "", source, line),
            metadata=_metadata(rest, source, line),
            source=source,
            line=line,
        )

    def missing(self, seen: Iterable[str], source: str, line: int) -> InputError:
        """The error for records whose fields ``seen`` hold no id or no text."""
        seen = list(seen)
        what = "id" if self.names(seen).id is None else "text"
        chosen, usual = (self.id, self.usual_ids) if what == "id" else (self.text, self.usual_texts)
        listed = ", ".join(_shown(name) for name in seen[:12]) or "no field"
        listed += ", ..." if len(seen) > 12 else ""
        if chosen is not None:
            message = f"no field {chosen!r} for the {what}: there is {listed}"
        else:
            names = f"{', '.join(usual[:-1])} or {usual[-1]}"
            advice = self.advice.format(what)
            message = f"no {what}: expected a field {names}; there is {listed}{advice}"
        return InputError(message, source, line)


def document_id(value: object, source: str, line: int) -> str:
    """An id as text. Raises InputError for what cannot be one (see `Fields.document`)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        message = f"the id is {_kind(value)}: ids are text or whole numbers"
        raise InputError(message, source, line)
    if not value.strip():
        raise InputError("the id is empty", source, line)
    if "\0" in value or _has_surrogate(value):
        message = f"the id {value[:80]!a} holds a NUL or a lone surrogate: give it another id"
        raise InputError(message, source, line)
    return value


def mend(text: str) -> str:
    """Replace NUL and lone surrogates by U+FFFD."""
    if _has_surrogate(text):
        text = _SURROGATE.sub("\ufffd", text)
    return text.replace("\0", "\ufffd")


def _find(names: tuple[str, ...], seen: list[str]) -> str | None:
    for name in names:
        if name in seen:
            return name
    for key in seen:
        if key.strip().lower() in names:
            return key
    return None


def _content(value: object, name: str, source: str, line: int) -> str:
    if isinstance(value, str):
        return mend(value)
    if value is None:
        return ""
    raise InputError(f"the field {name!r} is {_kind(value)}: expected text", source, line)


def _metadata(rest: dict[str, object], source: str, line: int) -> dict[str, object]:
    nested = rest.get("metadata")
    if nested is None or isinstance(nested, dict):
        rest.pop("metadata", None)
        rest = {**(nested or {}), **rest}
    clean = {}
    for key, value in rest.items():
        try:
            clean[mend(key)] = _value(value, 0)
        except ValueError as exc:
            raise InputError(f"the field {mend(key)[:80]!r} {exc}", source, line) from exc
    return clean


def _value(value: object, depth: int) -> object:
    if isinstance(value, str):
        return mend(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if -(2**63) <= value < 2**63:
            return value
        raise ValueError("holds a whole number beyond 64 bits: store it as text")
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        raise ValueError("holds a number that is not finite: use null or leave it out")
    if depth >= MAX_DEPTH:
        raise ValueError(f"is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, (list, tuple)):
        return [_value(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {mend(str(key)): _value(item, depth + 1) for key, item in value.items()}
    raise ValueError(f"holds a value of type {type(value).__name__}, which JSON does not have")


def _shown(name: str) -> str:
    return name[:40] if name.isprintable() else ascii(name[:40])


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _kind(value: object) -> str:
    return _JSON_TYPES.get(type(value).__name__, f"of type {type(value).__name__}")
