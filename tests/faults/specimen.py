"""A small index that has everything, to be damaged: what it answers, sound and otherwise.

Beside it stand the same index as it was one generation before and some more before that, and
another one: their files are sound, and of the same kinds, but belong elsewhere.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from semsearch.collection import lexical_cache, maintain, snapshot, tokens, vector_build
from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from semsearch.encoders import Encoder
from semsearch.errors import NotFound, SemsearchError
from semsearch.index import build, tune
from semsearch.indexing import Source, choose_long_text, run_indexing
from semsearch.ranking.settings import Ranking
from semsearch.ranking.tuned import record_ranking
from semsearch.search.options import Options
from semsearch.search.searcher import Searcher
from semsearch.store.filters import Condition
from semsearch.types import Document
from tests.fakes import FakeEncoder, make_documents
from tests.store_model import small_sizes

DIM = 16
KINDS = {"vectors": "seg/*.vec", "tokens": "seg/*.tok", "faiss": "ann/*", "lexical": "lex/*"}
EARLIER = ("older", "before")
"""The index one generation before, whose files are all still there, and long before that."""

ELSEWHERE = (*EARLIER, "other")
LONG = "a value too long for the index of fields " * 8
RANKING = Ranking(depth=5, rerank_depth=40)
"""So few candidates that FAISS, of so few rows, saves something."""

ENCODER = cast(Encoder, FakeEncoder(DIM, "specimen", max_length=24))


@contextmanager
def sizes() -> Iterator[None]:
    """Segments, rotation and FAISS for a handful of rows."""
    with pytest.MonkeyPatch.context() as patch:
        small_sizes(patch.setattr)
        patch.setattr(tune, "CANDIDATES", (6, 12, 24))
        for module in (vector_build, build):
            patch.setattr(module, "EXACT_ROWS", 20)
        yield


def documents(seed: int, count: int = 200) -> list[Document]:
    """Short ones and, every ninth, long ones of several passages; all kinds of metadata."""
    found = make_documents(count, seed)
    more = make_documents(count, seed + 1000, words=50)
    for number, document in enumerate(found):
        metadata: dict[str, Any] = dict(document.metadata)
        metadata["price"] = number / 4
        if number % 20 == 0:
            metadata["note"] = LONG + str(number)
        if number % 25 == 0:
            metadata["big"] = 10**20 + number
        text = more[number].text if number % 9 == 0 else document.text
        found[number] = Document(
            document.id, text, document.title, metadata, document.source, document.line
        )
    return found


def make(folder: Path, seed: int) -> None:
    """The index, as it was before, and another one: ``index`` and what is ``ELSEWHERE``."""
    with sizes():
        _grow(folder / "index", seed)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            _grow(Path(place) / "index", seed + 1)
            (Path(place) / "index").rename(folder / "other")


def _grow(folder: Path, seed: int) -> None:
    every = documents(seed)
    with open_for_writing(Layout(folder)) as writer:
        choose_long_text(writer, "chunk")
        run_indexing(writer, ENCODER, [Source("made.jsonl", every[:60])])
        run_indexing(writer, ENCODER, [Source("made.jsonl", every[60:80])])
        vector_build.choose_kind(writer, "SQ8")
        record_ranking(writer, RANKING)
    shutil.copytree(folder, folder.with_name("older"))
    with open_for_writing(Layout(folder)) as writer:
        writer.delete([document.id for document in every[3:80:11]])
        run_indexing(writer, ENCODER, [Source("made.jsonl", every[80:180])])
        maintain.merge_segments(writer)
        vector_build.build_vector_cache(writer, force=True)
        lexical_cache.build_lexical_cache(writer, force=True)
        changed = [_changed(document) for document in every[5:40:18]]
        run_indexing(writer, ENCODER, [Source("more.jsonl", [*changed, *every[181:184]])])
    shutil.copytree(folder, folder.with_name("before"))
    with open_for_writing(Layout(folder)) as writer:
        writer.delete([document.id for document in every[90:160:13]])


def _changed(document: Document) -> Document:
    return Document(
        document.id, f"changed {document.text}", document.title, document.metadata, document.source
    )


# ---- what is asked

QUERIES = ("bar dor gil kol", "changed title mar fal")


def _filter(field: str, op: str, *values: Any) -> tuple[Condition, ...]:
    return (Condition(field, op, values),)


OPTIONS = {
    "dense": Options("dense"),
    "dense exact": Options("dense", exact=True),
    "dense cut": Options("dense", dims=8),
    "lexical": Options("lexical"),
    "hybrid": Options("hybrid", rerank="none"),
    "hybrid as tuned": Options("hybrid"),
    "hybrid self": Options("hybrid", rerank="self", ranking=Ranking(depth=60, rerank_depth=60)),
    "filter equal": Options("dense", conditions=_filter("year", "=", 2005)),
    "filter range": Options("lexical", conditions=_filter("price", ">=", 30.5)),
    "filter not": Options("dense", conditions=_filter("lang", "!=", "de")),
    "filter in": Options("hybrid", conditions=_filter("lang", "in", "en", "si")),
    "filter list": Options("dense", conditions=_filter("tags", "=", "b")),
    "filter long": Options("dense", conditions=_filter("note", "=", LONG + "40")),
    "filter two": Options(
        "hybrid", conditions=(*_filter("year", "<", 2015), *_filter("draft", "=", True))
    ),
}
GET, EXPORT = "get", "export"
QUESTIONS = (*OPTIONS, GET, EXPORT)
OF_FILES = ("dense", "dense exact", "dense cut", "lexical", "hybrid self", "filter range")
"""What is asked where the catalog is sound: whatever touches the other files."""


@dataclass
class Heard:
    """What the product said to each question: an answer or an error; warnings as they came."""

    answers: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, BaseException] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    generation: int = -1

    @property
    def said_something(self) -> bool:
        """Whether anything was refused or warned of."""
        return bool(self.errors or self.warnings)


class _Listening(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())


def ask(folder: Path, ids: list[str], questions: Sequence[str] = QUESTIONS) -> Heard:
    """Ask an index that is opened anew; errors and warnings are kept beside the answers."""
    heard = Heard()
    forget()
    listening = _Listening(heard.warnings)
    logger = logging.getLogger("semsearch")
    logger.addHandler(listening)
    before, logger.propagate = logger.propagate, False
    try:
        _ask(folder, ids, questions, heard)
    finally:
        logger.removeHandler(listening)
        logger.propagate = before
        forget()
    return heard


def _ask(folder: Path, ids: list[str], questions: Sequence[str], heard: Heard) -> None:
    try:
        with Reader(folder) as reader, closing(Searcher(reader, lambda _: ENCODER)) as searcher:
            heard.generation = searcher.snapshot.generation.gen
            for name in questions:
                _one(heard, name, _question(name, searcher, ids))
    except Exception as exc:  # noqa: BLE001 - it could not be opened: so ends every question
        for name in questions:
            if name not in heard.answers:
                heard.errors.setdefault(name, exc)


def _one(heard: Heard, name: str, question: Callable[[], Any]) -> None:
    try:
        heard.answers[name] = question()
    except Exception as exc:  # noqa: BLE001 - what is no SemsearchError is judged a crash
        heard.errors[name] = exc


def _question(name: str, searcher: Searcher, ids: list[str]) -> Callable[[], Any]:
    reader = searcher.reader
    if name == GET:
        return lambda: {id: _found(reader, id) for id in ids}
    if name == EXPORT:
        return lambda: [_plain(document) for document in reader.documents()]
    options = OPTIONS[name]
    return lambda: [
        [
            (hit.id, hit.score, hit.title, hit.text, _text(hit.metadata), hit.passage)
            for hit in searcher.search(query, 5, options)
        ]
        for query in QUERIES[: 1 if options.conditions else None]
    ]


def _found(reader: Reader, id: str) -> tuple[Any, ...] | None:
    try:
        return _plain(reader.find(id).document)
    except NotFound:
        return None


def _plain(document: Document) -> tuple[Any, ...]:
    text = _text(document.metadata)
    return (document.id, document.title, document.text, text, document.source)


def _text(metadata: Any) -> str:
    return json.dumps(metadata, sort_keys=True)


def forget() -> None:
    """Files that are still mapped would hide what is on disk by now."""
    snapshot._OPEN.clear()
    tokens._OPEN.clear()
    tokens._REPORTED.clear()


def findings(folder: Path) -> list[str]:
    """What a check of the whole index says; raises what is no SemsearchError."""
    forget()
    try:
        with Reader(folder) as reader:
            return [str(finding) for finding in check_index(reader)]
    except SemsearchError as exc:
        return [str(exc)]
    finally:
        forget()
