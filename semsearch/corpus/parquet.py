"""Parquet files, by pyarrow (extra ``parquet``)."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from semsearch.corpus.fields import Fields
from semsearch.corpus.text import Reject, name_of, stop
from semsearch.errors import InputError, MissingExtra
from semsearch.types import Document

_BATCH = 256


def read_parquet(
    path: str | Path, fields: Fields | None = None, reject: Reject = stop
) -> Iterator[Document]:
    """Documents of a Parquet file, one a row; a document's line is its row number from 1.

    Nulls and NaN are missing values and are left out of the metadata; dates and times become ISO
    text, decimals numbers. Bad rows go to ``reject``. Raises InputError for a file that cannot be
    read, MissingExtra without pyarrow.
    """
    fields = fields or Fields()
    name = name_of(path)
    for number, record in parquet_rows(path):
        names = fields.names(record)
        kept = {k: v for k, v in record.items() if v is not None or k in names}
        try:
            document = fields.document(kept, name, number)
        except InputError as error:
            reject(error)
            continue
        yield document


def parquet_rows(path: str | Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Number from 1 and values by column name of every row. Raises InputError, MissingExtra."""
    number = 0
    for batch in _batches(path, name_of(path)):
        for row in batch:
            number += 1
            yield number, {key: plain(value) for key, value in row.items()}


def plain(value: object) -> object:
    """A Parquet value as one that JSON has, as far as it goes."""
    if isinstance(value, float):
        return None if value != value else value  # NaN is how tables spell a missing number
    if isinstance(value, (datetime.date, datetime.time)):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _batches(path: str | Path, name: str) -> Iterator[list[dict[str, Any]]]:
    try:
        parquet = import_module("pyarrow.parquet")
        arrow_error: type[Exception] = import_module("pyarrow").ArrowException
    except ImportError as exc:
        raise MissingExtra("pyarrow", "parquet", "reading Parquet files") from exc
    read = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                rows: list[dict[str, Any]] = batch.to_pylist()
                yield rows
                read += len(rows)
    except UnicodeDecodeError as exc:
        message = "text that is not UTF-8 in this row or one of the next few hundred"
        raise InputError(message, name, read + 1) from exc
    except OSError as exc:
        raise InputError(f"cannot read: {exc.strerror or _first_line(exc)}", name) from exc
    except (ValueError, arrow_error) as exc:
        raise InputError(f"not a Parquet file, or damaged: {_first_line(exc)}", name) from exc


def _first_line(exc: Exception) -> str:
    return str(exc).strip().split("\n")[0]
