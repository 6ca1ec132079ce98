"""Labelled sets written in BEIR's layout, so that its reader, MTEB and other tools take them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from semsearch.corpus.beir import CORPUS_NAMES, QUERIES_NAMES
from semsearch.corpus.columns import check_cell, write_lines
from semsearch.corpus.fields import Fields
from semsearch.corpus.qrels import write_qrels
from semsearch.errors import InputError
from semsearch.fs import make_folder, new_folder
from semsearch.types import Document, Metadata, Qrels, Query

_FIELDS = Fields("_id", "text")
_SPLIT = re.compile(r"\w[\w.-]*")
# JSON may hold them as they are, but tools that cut a text with `splitlines` break lines there.
_BREAKS = {ord(mark): f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class BeirCounts:
    """What was written; ``missing_documents`` counts relevant ones that the corpus does not hold.

    Judgements of such documents are written too: they are part of what is relevant.
    """

    documents: int
    queries: int
    judgements: int
    missing_documents: int


def write_beir(
    folder: str | Path,
    documents: Iterable[Document],
    queries: Iterable[Query] = (),
    qrels: Mapping[str, Qrels] | None = None,
) -> BeirCounts:
    """Write ``corpus.jsonl``, ``queries.jsonl`` and a ``qrels/<split>.tsv`` for each split.

    ``folder`` must not exist, or be empty; it appears whole or not at all. Documents are streamed
    and may hold any id that a corpus may; without queries and ``qrels`` (split -> judgements) there
    is the corpus alone. Raises StorageError, and InputError: the folder is there, there is no
    document, an id comes twice, a split has no judgement, a judged query has no text (BEIR's
    reader fails on these four), or a judged id begins with a quote, which that reader would
    take off, or cannot be held by a table (see ``write_qrels``).
    """
    folder = Path(folder)
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError("this is there already: name a new folder", folder)
    splits = dict(qrels or {})
    asked = _queries(queries, folder)
    _check(splits, asked, folder)
    with new_folder(folder) as place:
        if asked or splits:
            write_lines(place / QUERIES_NAMES[0], _query_lines(asked.values()))
        if splits:
            make_folder(place / "qrels")
        for split, judged in splits.items():
            write_qrels(place / "qrels" / f"{split}.tsv", judged)
        ids: set[str] = set()
        write_lines(place / CORPUS_NAMES[0], _lines(_documents(documents, ids, folder)))
        if not ids:
            raise InputError("there is no document to write", folder)
    pairs = [pair for judged in splits.values() for of in judged.values() for pair in of.items()]
    missing = {document for document, grade in pairs if grade >= 1} - ids
    return BeirCounts(len(ids), len(asked), len(pairs), len(missing))


def _queries(queries: Iterable[Query], folder: Path) -> dict[str, Document]:
    found: dict[str, Document] = {}
    for number, query in enumerate(queries, start=1):
        given = Document(query.id, query.text, metadata=query.metadata)
        document = _checked(given, f"queries for {folder}", number)
        if document.id in found:
            raise InputError(f"the query id {document.id!r} comes twice", folder)
        found[document.id] = document
    return found


def _check(splits: Mapping[str, Qrels], asked: Mapping[str, Document], folder: Path) -> None:
    for split, judged in splits.items():
        if not _SPLIT.fullmatch(split):
            raise InputError(f"the split {split!r} cannot name a file: use test or dev", folder)
        if not any(judged.values()):
            raise InputError(f"the split {split!r} holds no judgement", folder)
        without = [query for query in judged if query not in asked]
        if without:
            message = f"{len(without)} judged in split {split!r} have no text, {without[0]!r} first"
            raise InputError(f"queries: {message}: add them, or leave out their judgements", folder)
        table = folder / "qrels" / f"{split}.tsv"
        for query, of in judged.items():
            _check_judged((query, *of), table)


def _check_judged(ids: Iterable[str], table: Path) -> None:
    for judged in ids:
        if check_cell(judged, table).startswith('"'):
            message = f"the id {judged!r} begins with a quote, which BEIR's reader takes off"
            raise InputError(f"{message}: rename the document or query", table)


def _documents(documents: Iterable[Document], ids: set[str], folder: Path) -> Iterator[Document]:
    for number, given in enumerate(documents, start=1):
        document = _checked(given, str(folder), number)
        if document.id in ids:
            raise InputError(f"duplicate id {document.id!r}", document.source, document.line)
        ids.add(document.id)
        yield document


def _checked(given: Document, source: str, number: int) -> Document:
    """The document, mended and refused by the rules of those that are read."""
    record: dict[str, object] = {"_id": given.id, "title": given.title, "text": given.text}
    record["metadata"] = dict(given.metadata)
    return _FIELDS.document(record, given.source or source, given.line or number)


def _lines(documents: Iterable[Document]) -> Iterator[str]:
    for document in documents:
        yield f"{document_json(document)}\n"


def _query_lines(queries: Iterable[Document]) -> Iterator[str]:
    for query in queries:
        yield f"{_json({'_id': query.id, 'text': query.text}, query.metadata)}\n"


def document_json(document: Document, indent: int | None = None) -> str:
    """One JSON object with ``_id``, ``title``, ``text`` and, where there is any, ``metadata``.

    Without ``indent`` it is one line for every reader, whatever it takes for the end of a line.
    """
    value = {"_id": document.id, "title": document.title, "text": document.text}
    return _json(value, document.metadata, indent)


def _json(value: dict[str, str], metadata: Metadata, indent: int | None = None) -> str:
    whole = {**value, "metadata": dict(metadata)} if metadata else value
    return json.dumps(whole, ensure_ascii=False, indent=indent).translate(_BREAKS)
