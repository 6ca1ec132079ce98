"""JSON lines: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from semsearch.corpus.fields import Fields
from semsearch.corpus.text import MAX_LINE, Reject, good_lines, name_of, stop
from semsearch.errors import InputError
from semsearch.types import Document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value: use null or leave it out")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def read_jsonl(
    path: str | Path,
    fields: Fields | None = None,
    reject: Reject = stop,
    *,
    max_line: int = MAX_LINE,
) -> Iterator[Document]:
    """Documents of a JSON-lines file (gzip or not), or of standard input for ``-``.

    Blank lines are passed over. Bad records go to ``reject`` as InputError with file and line;
    what cannot be read at all raises it.
    """
    fields = fields or Fields()
    name = name_of(path)
    for number, record in read_objects(path, reject, max_line=max_line):
        try:
            document = fields.document(record, name, number)
        except InputError as error:
            reject(error)
            continue
        yield document


def read_objects(
    path: str | Path, reject: Reject = stop, *, max_line: int = MAX_LINE
) -> Iterator[tuple[int, dict[str, object]]]:
    """Line number and JSON object of every line that is not blank."""
    name = name_of(path)
    for number, text in good_lines(path, reject, max_line=max_line):
        try:
            record = parse_object(text)
        except ValueError as exc:
            reject(InputError(str(exc), name, number))
            continue
        yield number, record


def parse_object(text: str) -> dict[str, object]:
    """Read one JSON object. Raises ValueError with a message for people."""
    try:
        # Files that were pasted together keep their byte order marks in the middle.
        record = _DECODER.decode(text.lstrip("\ufeff"))
    except json.JSONDecodeError as exc:
        raise ValueError(
            f"not valid JSON ({exc.msg} at column {exc.colno}): expected one JSON object a line"
        ) from exc
    except RecursionError as exc:
        raise ValueError("the JSON is nested too deeply") from exc
    except ValueError as exc:  # a constant that JSON does not have, or thousands of digits
        raise ValueError(f"not valid JSON ({exc})") from exc
    if not isinstance(record, dict):
        raise ValueError(
            f"expected a JSON object a line, found {_found(record)}"
            + (" (one JSON array: split it with jq -c '.[]')" if isinstance(record, list) else "")
        )
    return record


def _found(value: object) -> str:
    if isinstance(value, list):
        return "a list"
    return "text" if isinstance(value, str) else "a number, true, false or null"
