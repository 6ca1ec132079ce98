"""From a corpus to a collection: read in windows, encode what is new, commit, go on.

A window is cut by the position in the input and committed whole and in order, so a run that was
stopped resumes with the same windows and encodes only what is missing. While one is encoded, the
one before is committed and the one after is read: memory is two windows, whatever the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from semsearch import stopping
from semsearch.collection.changes import Change, NewPassage
from semsearch.collection.layout import ROTATION_SAMPLE, UNCOVERED_WORDS
from semsearch.collection.lexical_cache import build_lexical_cache, uncovered_passages
from semsearch.collection.maintain import fit_rotation_if_due, merge_segments
from semsearch.collection.writer import Writer
from semsearch.errors import InputError
from semsearch.indexing.ahead import Abandoned, one_ahead
from semsearch.indexing.encoding import Made, encode, new_passages, placed
from semsearch.indexing.long_text import LongText, LongTexts, Piece
from semsearch.indexing.room import require_room_for_batch
from semsearch.indexing.source import WINDOW_DOCUMENTS, SeenIds, Source, windows
from semsearch.indexing.summary import OnDuplicate, Summary
from semsearch.indexing.token_vectors import codec_of
from semsearch.store import documents, passages
from semsearch.types import Document

if TYPE_CHECKING:
    from threading import Event

    from semsearch.encoders import Encoder


@dataclass(frozen=True, slots=True)
class _Stored:
    """What is stored of a document, or will be: how it was cut is known once it is."""

    source: str
    content_hash: bytes
    extent: passages.Extent | None = None


@dataclass(frozen=True, slots=True)
class _Window:
    """``read`` documents of the input: those to store, their passages, the texts to encode."""

    read: int
    changed: list[Document]
    pieces: list[list[Piece]]
    texts: dict[bytes, str]


class Indexer:
    """Brings a collection up to date with its sources. One run; not reusable.

    ``progress`` is called with the number of documents done since the last call, from the thread
    that encodes.
    """

    def __init__(
        self,
        writer: Writer,
        encoder: Encoder,
        *,
        long_text: LongText,
        on_duplicate: OnDuplicate = "error",
        prune: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._writer = writer
        self._encoder = encoder
        self._on_duplicate = on_duplicate
        self._prune = prune
        self._progress = progress or (lambda _: None)
        self._long = LongTexts(encoder, long_text)
        self._codec = codec_of(writer, encoder)
        self._seen = SeenIds()
        self._read = 0
        self.summary = Summary()

    def run(self, sources: Sequence[Source]) -> Summary:
        """Index every source in turn.

        Raises InputError for a malformed or duplicate document; windows before it stay committed,
        and running again resumes there.
        """
        with self._seen:
            for source in sources:
                before = self._read
                # 7 % faster beside a device of 0.66 ms a text (simulated); on 2 cores alone, 1 %.
                with stopping.deferred():  # the windows that are being encoded are committed first
                    one_ahead(self._windows(source), self._encode, self._commit)
                self._account_for_the_rest(source, self._read - before)
        return self.summary

    def _windows(self, source: Source) -> Iterator[_Window]:
        before = _Window(0, [], [], {})
        following = windows(source.documents)
        while True:
            with stopping.at_once():  # a stream may keep us waiting
                documents_read = next(following, None)
                if documents_read is None:
                    return
                before = self._window(source, documents_read, before)
            yield before

    def _window(self, source: Source, read: Sequence[Document], before: _Window) -> _Window:
        """What is to be done; all windows are committed but ``before``, which will be."""
        texts = self._without_empty(read)
        if not source.own_sources:
            texts = [replace(d, source=source.uri) for d in texts]
        wanted, again = self._without_duplicates(texts)
        stored = self._stored(wanted, [d for d in before.changed if d.id in again])
        changed = [d for d in wanted if self._is_changed(d, stored.get(d.id), d.id in again)]
        pieces, texts_of = self._long.cut(changed)
        known = self._rows_known(texts_of).keys() | before.texts.keys()
        new = {h: text for h, text in texts_of.items() if h not in known}
        return _Window(len(read), changed, pieces, new)

    def _stored(self, wanted: Sequence[Document], newer: Sequence[Document]) -> dict[str, _Stored]:
        """By id: what is stored of ``newer`` documents, else as it is committed."""
        connection = self._writer.connection
        rows = documents.live_by_id(connection, [d.id for d in wanted])
        owners = [row.doc_id for row in rows.values()]
        extents = passages.extents_of(connection, owners, self._encoder.max_length)
        found = {
            id: _Stored(row.source, row.content_hash, extents.get(row.doc_id))
            for id, row in rows.items()
        }
        return found | {d.id: _Stored(d.source, documents.content_hash(d)) for d in newer}

    def _without_duplicates(self, window: Sequence[Document]) -> tuple[list[Document], set[str]]:
        """The documents to keep, and those ids among them that an earlier window had."""
        kept: dict[str, Document] = {}
        again: set[str] = set()
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
                    if kept.pop(document.id, None) is None:
                        again.add(document.id)
                    kept[document.id] = document
        return list(kept.values()), again

    def _without_empty(self, window: Sequence[Document]) -> list[Document]:
        empty = [document for document in window if not document.content]
        self.summary.empty += len(empty)
        self.summary.empty_ids.extend(d.id for d in empty[: 5 - len(self.summary.empty_ids)])
        return [document for document in window if document.content]

    def _is_changed(self, document: Document, stored: _Stored | None, counted: bool) -> bool:
        """Whether to store it; ``counted`` if this run counted a document of this id before."""
        if stored is None:
            self.summary.new += not counted
            return True
        extent = stored.extent
        other_source = stored.source != document.source
        other_content = stored.content_hash != documents.content_hash(document) or (
            extent is not None and self._long.is_outdated(extent)
        )
        if not counted:
            self.summary.moved += other_source
            self.summary.updated += other_content
            self.summary.unchanged += not other_content
        if other_content or other_source:
            return True
        if extent is not None:
            self.summary.count(extent)
        return False

    def _encode(self, window: _Window, stop: Event) -> Made | None:
        """The vectors of a window's new texts; in a thread that has no business with the writer."""
        stopping.check()
        encoded_texts = reported = 0

        def report(texts: int) -> None:
            nonlocal encoded_texts, reported
            if stop.is_set():
                raise Abandoned
            encoded_texts += texts
            share = window.read * encoded_texts // len(window.texts)  # in documents
            self._progress(share - reported)
            reported = share

        made = None
        if window.texts:
            made = encode(self._encoder, self._codec, list(window.texts.values()), report)
        self._progress(window.read - reported)
        return made

    def _commit(self, window: _Window, made: Made | None) -> None:
        """Store a window: new vectors for its new texts, for the others those of the index."""
        self._read += window.read
        if not window.changed:
            return
        require_room_for_batch(self._writer, window.changed, sum(map(len, window.pieces)))
        reorganise(self._writer)
        found = {} if made is None else self._new_passages(window.texts, made)
        found.update(self._known({p.text_hash for d in window.pieces for p in d} - found.keys()))
        changes = [
            Change(document, placed(cut, found))
            for document, cut in zip(window.changed, window.pieces, strict=True)
        ]
        self._writer.commit(changes)
        for change in changes:
            self.summary.count(self._long.extent(change.passages))

    def _rows_known(self, hashes: Collection[bytes]) -> dict[bytes, passages.PassageRow]:
        encoder = self._writer.snapshot.encoder
        if encoder is None:
            return {}
        return passages.vectors_known(self._writer.connection, sorted(hashes), encoder.encoder_id)

    def _known(self, hashes: Collection[bytes]) -> dict[bytes, NewPassage]:
        rows = self._rows_known(hashes)
        if not rows:
            return {}
        ordered = sorted(rows.items(), key=lambda item: item[1].vid)
        vids = np.array([row.vid for _, row in ordered], np.int64)
        vectors, codes = self._writer.vectors_of(vids), self._writer.codes_of(vids)
        return {
            h: NewPassage(0, 0, h, vector, row.tokens, row.unknown, bool(row.truncated), own)
            for (h, row), vector, own in zip(ordered, vectors, codes, strict=True)
        }

    def _new_passages(self, hashes: Collection[bytes], made: Made) -> dict[bytes, NewPassage]:
        self.summary.encoded += len(hashes)
        self.summary.tokens += int(made.encoded.tokens.sum())
        self.summary.unknown += int(made.encoded.unknown.sum())
        return new_passages(self._writer, hashes, made)

    def _account_for_the_rest(self, source: Source, read: int) -> None:
        """Count or prune the documents that this source held before and holds no more."""
        if not source.prunable:
            return
        gone = self._seen.absent(self._writer.connection, source.uri)
        if not self._prune:
            self.summary.missing += len(gone)
            return
        if gone and not read:
            raise InputError(
                f"holds no documents: refusing to prune the {len(gone):,} that came from it;"
                " use `semsearch delete` if that is meant",
                source.uri,
            )
        for start in range(0, len(gone), WINDOW_DOCUMENTS):
            self._writer.delete(gone[start : start + WINDOW_DOCUMENTS])
        self.summary.pruned += len(gone)


def reorganise(writer: Writer) -> None:
    """Keep segments few, the rotation early, the words covered; by what is committed only."""
    merge_segments(writer)
    fit_rotation_if_due(writer, at_least=ROTATION_SAMPLE)
    if uncovered_passages(writer.snapshot) > UNCOVERED_WORDS:
        build_lexical_cache(writer)
