"""From a corpus to a collection: read in windows, encode what is new, commit, go on.

A window is cut by the position in the input and committed whole, so a run that was stopped resumes
with the same windows and encodes only what is missing. Memory is one window, whatever the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from semsearch.collection.changes import Change, NewPassage
from semsearch.collection.layout import ROTATION_SAMPLE, UNCOVERED_WORDS
from semsearch.collection.lexical_cache import build_lexical_cache, uncovered_passages
from semsearch.collection.maintain import fit_rotation_if_due, merge_segments
from semsearch.collection.writer import Writer
from semsearch.errors import InputError, ModelError
from semsearch.indexing.source import WINDOW_DOCUMENTS, SeenIds, Source, windows
from semsearch.indexing.summary import OnDuplicate, Summary
from semsearch.store import documents, passages
from semsearch.types import Document

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from semsearch.encoders import Encoder
    from semsearch.types import Floats


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
        self._seen = SeenIds()
        self.summary = Summary()

    def run(self, sources: Sequence[Source]) -> Summary:
        """Index every source in turn.

        Raises InputError for a malformed or duplicate document; windows before it stay committed,
        and running again resumes there.
        """
        with self._seen:
            for source in sources:
                read = 0
                for window in windows(source.documents):
                    self._reported = 0
                    self._commit(source.uri, window)
                    self._progress(len(window) - self._reported)
                    read += len(window)
                self._account_for_the_rest(source, read)
        return self.summary

    def _commit(self, uri: str, window: Sequence[Document]) -> None:
        texts = self._without_empty(window)
        wanted, again = self._without_duplicates([replace(d, source=uri) for d in texts])
        stored = documents.live_by_id(self._writer.connection, [d.id for d in wanted])
        changed = [d for d in wanted if self._is_changed(d, stored.get(d.id), d.id in again)]
        if changed:
            reorganise(self._writer)
            self._writer.commit(self._encode(changed))

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

    def _is_changed(
        self, document: Document, stored: documents.StoredDocument | None, counted: bool
    ) -> bool:
        """Whether to store it; ``counted`` if this run counted a document of this id before."""
        if stored is None:
            self.summary.new += not counted
            return True
        other_source = stored.source != document.source
        other_content = documents.content_hash(document) != stored.content_hash
        if not counted:
            self.summary.moved += other_source
            self.summary.updated += other_content
            self.summary.unchanged += not other_content
        return other_content or other_source

    def _encode(self, changed: Sequence[Document]) -> list[Change]:
        """Vectors for new texts by the encoder; for texts already stored, from the index."""
        contents = [document.content for document in changed]
        hashes = [passages.text_hash(content) for content in contents]
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
        rows = passages.vectors_known(self._writer.connection, sorted(hashes), encoder.encoder_id)
        if not rows:
            return {}
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
        _check_directions(encoded.vectors, list(texts.values()), self._encoder.name)
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


def _check_directions(vectors: Floats, texts: Sequence[str], model: str) -> None:
    lengths = np.einsum("ij,ij->i", vectors, vectors)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise ModelError(
            f"{model}: gives a vector without a direction (NaN, infinite or zero) for the text"
            f" {texts[bad[0]][:60]!r}: nothing of its window was stored"
        )


def reorganise(writer: Writer) -> None:
    """Keep segments few, the rotation early, the words covered; by what is committed only."""
    merge_segments(writer)
    fit_rotation_if_due(writer, at_least=ROTATION_SAMPLE)
    if uncovered_passages(writer.snapshot) > UNCOVERED_WORDS:
        build_lexical_cache(writer)
