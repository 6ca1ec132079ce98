"""Files of queries: JSON lines with an id and a text, or a table of the two."""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path

from semsearch.corpus.fields import Fields
from semsearch.corpus.jsonl import read_objects
from semsearch.corpus.table import is_tsv, read_records
from semsearch.corpus.text import STDIN, first_bytes, name_of
from semsearch.errors import InputError
from semsearch.types import Query

_FIELDS = Fields(
    usual_ids=("_id", "id", "qid", "query_id", "query-id"),
    usual_texts=("text", "query", "question", "query_text"),
    advice="",
)
_JSON_LINES = (".jsonl", ".ndjson", ".json")


def read_queries(path: str | Path) -> list[Query]:
    """Read queries in the order of the file; gzip or not; ``-`` is JSON lines on standard input.

    A file is JSON lines or CSV when its name says so or its content begins with ``{``; any other is
    ``id<TAB>text``, with a header or without. Integer ids become text, a null text is empty. The
    other fields are metadata as they are, an object-valued ``metadata`` merged into them. An id may
    come again only with the same text; its first record counts. Raises InputError.
    """
    name = name_of(path)
    queries: dict[str, tuple[int, Query]] = {}
    records = read_objects(path) if _is_json(path) else read_records(path, _FIELDS, tsv=_tabs(path))
    for line, record in records:
        names = _FIELDS.names(record)
        kept = {key: value for key, value in record.items() if key in (names.id, names.text)}
        document = _FIELDS.document(kept, name, line) if len(kept) == 2 else None
        if document is None:
            raise _FIELDS.missing(record, name, line)
        query = Query(document.id, document.text, _metadata(record, kept))
        first, known = queries.setdefault(query.id, (line, query))
        if known != query:
            raise InputError(f"another text for query {query.id!r} of line {first}", name, line)
    return [query for _, query in queries.values()]


def _metadata(record: Mapping[str, object], used: Container[str]) -> dict[str, object]:
    """The fields not ``used``; one of the record itself wins over one in its ``metadata``."""
    rest = {key: value for key, value in record.items() if key not in used}
    nested = rest.get("metadata")
    if nested is None or isinstance(nested, dict):
        rest.pop("metadata", None)
        rest = {**(nested or {}), **rest}
    return rest


def _is_json(path: str | Path) -> bool:
    plain = str(path).lower().removesuffix(".gz")
    if str(path) == STDIN or plain.endswith(_JSON_LINES):
        return True
    if plain.endswith((".csv", ".tsv", ".tab")) or not Path(path).is_file():
        return False
    return first_bytes(path).lstrip().startswith(b"{")


def _tabs(path: str | Path) -> bool:
    return is_tsv(path) or not str(path).lower().removesuffix(".gz").endswith(".csv")
