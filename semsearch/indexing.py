"""From a corpus to a collection: read in windows, encode what is new, commit, go on.

A window is cut by the position in the input and committed whole, so a run that was stopped resumes
with the same windows and encodes only what is missing. Memory is one window, whatever the corpus.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from semsearch.collection.layout import FLUSH_ROWS, ROTATION_SAMPLE
from semsearch.collection.lexical_cache import build_lexical_cache
from semsearch.collection.maintain import compact, fit_rotation_if_due, merge_segments
from semsearch.collection.vector_cache import build_vector_cache
from semsearch.collection.writer import Change, NewPassage, Writer
from semsearch.errors import InputError, Mismatch, UsageError
from semsearch.store import catalog, documents
from semsearch.types import Document

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from semsearch.encoders import Encoder

WINDOW_DOCUMENTS = 2_048
WINDOW_CHARACTERS = 16_000_000

OnDuplicate = Literal["error", "replace", "skip"]


@dataclass(frozen=True)
class Source:
    """A corpus to index: ``uri`` names it in the index; ``prunable`` unless it is a stream."""

    uri: str
    documents: Iterable[Document]
    prunable: bool = True


@dataclass
class Summary:
    """What an indexing run did, in documents; ``tokens`` and ``unknown`` are of encoded texts."""

    new: int = 0
    updated: int = 0
    unchanged: int = 0
    moved: int = 0
    empty: int = 0
    duplicates: int = 0
    pruned: int = 0
    missing: int = 0
    encoded: int = 0
    truncated: int = 0
    tokens: int = 0
    unknown: int = 0
    empty_ids: list[str] = field(default_factory=list)

    @property
    def read(self) -> int:
        """Documents read, in all."""
        return self.new + self.updated + self.unchanged + self.empty + self.duplicates

    @property
    def unknown_share(self) -> float:
        """The share of encoded tokens that the model does not know, 0 to 1."""
        return self.unknown / self.tokens if self.tokens else 0.0


def run_indexing(
    writer: Writer,
    encoder: Encoder,
    sources: Sequence[Source],
    *,
    dims: int | None = None,
    on_duplicate: OnDuplicate = "error",
    prune: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Bring an index up to date with its sources, its derived files too.

    ``dims`` is the stored width of a new index. Raises Mismatch when the index was made by another
    model or at another width, InputError for bad documents, StorageError.
    """
    _adopt(writer, encoder, dims)
    indexer = Indexer(writer, encoder, on_duplicate=on_duplicate, prune=prune, progress=progress)
    try:
        summary = indexer.run(sources)
    except InputError:  # what came before is committed: make it quick to search
        finish(writer)
        raise
    finish(writer)
    return summary


def finish(writer: Writer) -> None:
    """Put an index in order after documents changed: rotation, few segments, derived files."""
    snapshot = writer.snapshot
    dead = len(snapshot.dead)
    if dead > max(FLUSH_ROWS, snapshot.generation.n_passage):
        compact(writer)
    reorganise(writer)
    fit_rotation_if_due(writer)
    build_vector_cache(writer)
    build_lexical_cache(writer)


def _adopt(writer: Writer, encoder: Encoder, dims: int | None) -> None:
    recorded = writer.snapshot.encoder
    if dims is not None and not 1 <= dims <= encoder.dim:
        raise UsageError(f"--dims {dims}: {encoder.name} makes vectors of {encoder.dim} dimensions")
    if recorded is None:
        writer.adopt_encoder(encoder_row(encoder), dims or encoder.dim)
        return
    if recorded.fingerprint != encoder.fingerprint:
        raise Mismatch(
            f"{writer.layout.folder}: the index was made by {recorded.name}"
            f" ({recorded.fingerprint[:12]}), not by {encoder.name} ({encoder.fingerprint[:12]}):"
            " leave out -m, or make a new index with -i"
        )
    if dims is not None and dims != writer.snapshot.dims:
        raise Mismatch(
            f"{writer.layout.folder}: the index stores {writer.snapshot.dims} dimensions: leave out"
            " --dims (a query can be cut with its own --dims), or make a new index with -i"
        )


class Indexer:
    """Brings a collection up to date with its sources. One run; not reusable.

    ``progress`` is called with the number of documents done since the last call.
    """

    def __init__(
        self,
        writer: Writer,
        encoder: Encoder,
        *,
        on_duplicate: OnDuplicate = "error",
        prune: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._writer = writer
        self._encoder = encoder
        self._on_duplicate = on_duplicate
        self._prune = prune
        self._progress = progress or (lambda _: None)
        self._reported = 0
        self._seen = _SeenIds()
        self.summary = Summary()

    def run(self, sources: Sequence[Source]) -> Summary:
        """Index every source in turn.

        Raises InputError for a malformed or duplicate document; windows before it stay committed,
        and running again resumes there.
        """
        for source in sources:
            for window in windows(source.documents):
                self._reported = 0
                self._commit(source.uri, window)
                self._progress(len(window) - self._reported)
            self._finish(source)
        return self.summary

    def _commit(self, uri: str, window: Sequence[Document]) -> None:
        wanted = self._without_duplicates([replace(d, source=uri) for d in window])
        wanted = self._without_empty(wanted)
        stored = documents.live_by_id(self._writer.connection, [d.id for d in wanted])
        changed = [d for d in wanted if self._is_changed(d, stored.get(d.id))]
        if changed:
            reorganise(self._writer)
            self._writer.commit(self._encode(changed))

    def _without_duplicates(self, window: Sequence[Document]) -> list[Document]:
        kept: dict[str, Document] = {}
        for document in window:
            first = self._seen.add(document)
            if first is None:
                kept[document.id] = document
            elif self._on_duplicate == "error":
                raise InputError(
                    f"duplicate id {document.id!r}, first at {first}: make ids unique, or choose"
                    " --on-duplicate replace or skip",
                    document.source,
                    document.line,
                )
            else:
                self.summary.duplicates += 1
                if self._on_duplicate == "replace":
                    kept.pop(document.id, None)
                    kept[document.id] = document
        return list(kept.values())

    def _without_empty(self, window: Sequence[Document]) -> list[Document]:
        empty = [document for document in window if not document.content]
        self.summary.empty += len(empty)
        self.summary.empty_ids.extend(d.id for d in empty[: 5 - len(self.summary.empty_ids)])
        return [document for document in window if document.content]

    def _is_changed(self, document: Document, stored: documents.StoredDocument | None) -> bool:
        if stored is None:
            self.summary.new += 1
            return True
        if documents.content_hash(document) != stored.content_hash:
            self.summary.updated += 1
            return True
        self.summary.unchanged += 1
        if stored.source != document.source:
            self.summary.moved += 1
            return True
        return False

    def _encode(self, changed: Sequence[Document]) -> list[Change]:
        """Vectors for new texts by the encoder; for texts already stored, from the index."""
        contents = [document.content for document in changed]
        hashes = [documents.text_hash(content) for content in contents]
        known = self._known(set(hashes))
        texts = {h: c for h, c in zip(hashes, contents, strict=True) if h not in known}
        known.update(self._new_passages(texts))
        return [
            Change(document, (replace(known[h], end=len(content)),))
            for document, h, content in zip(changed, hashes, contents, strict=True)
        ]

    def _known(self, hashes: set[bytes]) -> dict[bytes, NewPassage]:
        encoder = self._writer.snapshot.encoder
        if encoder is None:
            return {}
        rows = documents.vectors_known(self._writer.connection, sorted(hashes), encoder.encoder_id)
        ordered = sorted(rows.items(), key=lambda item: item[1].vid)
        vids = np.array([row.vid for _, row in ordered], np.int64)
        vectors = self._writer.vectors_of(vids)
        return {
            h: NewPassage(0, 0, h, vector, row.tokens, row.unknown, bool(row.truncated))
            for (h, row), vector in zip(ordered, vectors, strict=True)
        }

    def _new_passages(self, texts: dict[bytes, str]) -> dict[bytes, NewPassage]:
        if not texts:
            return {}
        encoded = self._encoder.encode_documents(list(texts.values()), self._report)
        stored: NDArray[np.float16] = self._writer.stored(encoded.vectors)
        self.summary.encoded += len(texts)
        self.summary.tokens += int(encoded.tokens.sum())
        self.summary.unknown += int(encoded.unknown.sum())
        self.summary.truncated += int(encoded.truncated.sum())
        return {
            h: NewPassage(
                0, 0, h, stored[i], int(encoded.tokens[i]), int(encoded.unknown[i]),
                bool(encoded.truncated[i]),
            )
            for i, h in enumerate(texts)
        }  # fmt: skip

    def _report(self, texts: int) -> None:
        self._reported += texts
        self._progress(texts)

    def _finish(self, source: Source) -> None:
        if not source.prunable:
            return
        gone = self._seen.absent(self._writer.connection, source.uri)
        if self._prune:
            self._writer.delete(gone)
            self.summary.pruned += len(gone)
        else:
            self.summary.missing += len(gone)
        self._writer.record_source(source.uri)


def reorganise(writer: Writer) -> None:
    """Keep segments few and fit the rotation early; depends on what is committed, on nothing else."""
    merge_segments(writer)
    fit_rotation_if_due(writer, at_least=ROTATION_SAMPLE)


class _SeenIds:
    """The ids of this run with their places, on disk when they are many."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # a private temporary file
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, place TEXT) WITHOUT ROWID")

    def add(self, document: Document) -> str | None:
        """Remember an id; the place where it was seen first if this is not the first time."""
        place = f"{document.source}:{document.line}" if document.line else document.source
        try:
            self._db.execute("INSERT INTO seen VALUES (?, ?)", (document.id, place))
        except sqlite3.IntegrityError:
            row = self._db.execute("SELECT place FROM seen WHERE id = ?", (document.id,)).fetchone()
            return str(row[0])
        return None

    def absent(self, connection: sqlite3.Connection, uri: str) -> list[str]:
        """Ids of live documents of a source that this run did not see."""
        rows = connection.execute(
            "SELECT ext_id FROM document WHERE source = ? AND deleted_gen IS NULL", (uri,)
        )
        return [
            ext_id
            for (ext_id,) in rows
            if not self._db.execute("SELECT 1 FROM seen WHERE id = ?", (ext_id,)).fetchone()
        ]


def windows(source: Iterable[Document]) -> Iterator[list[Document]]:
    """Cut a stream by count and size, always at the same places."""
    window: list[Document] = []
    characters = 0
    for document in source:
        window.append(document)
        characters += len(document.text)
        if len(window) >= WINDOW_DOCUMENTS or characters >= WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def encoder_row(encoder: Encoder) -> catalog.EncoderRow:
    """What the catalog records of an encoder."""
    from semsearch.store.rows import canonical_json

    return catalog.EncoderRow(
        1,
        encoder.fingerprint,
        encoder.name,
        None,
        encoder.dim,
        catalog.pack_dims(encoder.matryoshka_dims),
        canonical_json(encoder.prompts),
        encoder.max_length,
        encoder.runtime,
        encoder.precision,
    )
