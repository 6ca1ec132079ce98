"""Files of rows that are no documents: each a record with named values, whatever the format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from semsearch.corpus.jsonl import read_objects
from semsearch.corpus.parquet import parquet_rows
from semsearch.corpus.table import named_rows
from semsearch.errors import InputError

_TABLES = (".csv", ".tsv", ".tab")
_PARQUET = (".parquet", ".pq")


def read_rows(path: str | Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Line or row number from 1 and values by name of every row of a file, as they are read.

    CSV and TSV (gzip or not; a header is needed, all values are text), Parquet, else JSON lines.
    Raises InputError with file and line, MissingExtra for Parquet without pyarrow.
    """
    plain = str(path).lower().removesuffix(".gz")
    if not Path(path).exists():
        raise InputError("no such file", path)
    if plain.endswith(_PARQUET):
        return parquet_rows(path)
    return named_rows(path) if plain.endswith(_TABLES) else read_objects(path)
