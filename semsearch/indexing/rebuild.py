"""A damaged index written anew: what is sound is copied, what is lost is cut and encoded again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from semsearch.collection.changes import Change, NewPassage
from semsearch.collection.writer import Writer, open_for_writing
from semsearch.indexing.encoding import encode, new_passages, placed
from semsearch.indexing.long_text import LongTexts, recorded_long_text
from semsearch.indexing.model import require_same_model
from semsearch.indexing.run import encoder_row, finish, note_reading
from semsearch.indexing.source import WINDOW_DOCUMENTS
from semsearch.indexing.token_vectors import codec_of
from semsearch.store import catalog

if TYPE_CHECKING:
    from semsearch.collection.layout import Layout
    from semsearch.collection.salvage import Salvage, Saved
    from semsearch.encoders import Encoder

Load = Callable[[catalog.EncoderRow | None], "Encoder"]


@dataclass
class Rebuilt:
    """How much was written: documents, their passages, those whose vectors were computed again."""

    documents: int = 0
    passages: int = 0
    computed: int = 0


class Rebuilding:
    """One repair: what is sound is copied, what is lost is cut and encoded again."""

    def __init__(
        self,
        salvage: Salvage,
        load: Load,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._salvage = salvage
        self._load = load
        self._progress = progress or (lambda _: None)
        self._encoder: Encoder | None = None
        self._done = Rebuilt()

    def run(self, place: Layout) -> Rebuilt:
        """Write the new index into an empty folder."""
        with open_for_writing(place) as writer:
            self._begin(writer)
            saved = self._salvage.documents()
            while window := list(islice(saved, WINDOW_DOCUMENTS)):
                writer.commit(self._changes(writer, window))
                self._done.documents += len(window)
                self._progress(len(window))
            self._end(writer)
        return self._done

    def _begin(self, writer: Writer) -> None:
        """The model, the settings and the rotation; ids and generations go on where they were."""
        salvage = self._salvage
        with writer.transaction():
            catalog.start_ids_above(writer.connection, salvage.highest_id())
            for key, value in salvage.settings.items():
                catalog.set_meta(writer.connection, key, value)
            begin = catalog.GenerationRow(salvage.generation.gen, 0, 0, 0, 0)
            catalog.add_generation(writer.connection, begin)
        writer.refresh()
        row = salvage.encoder
        if row is None and self._has_documents():
            encoder = self._model()
            writer.adopt_encoder(encoder_row(encoder), encoder.dim, encoder.token_dim)
        elif row is not None:
            writer.adopt_encoder(row, salvage.dims, salvage.token_width)
        if row is not None and salvage.rotation is not None:
            number, fitted_on, matrix = salvage.rotation
            with writer.transaction():
                catalog.add_rotation(writer.connection, number, row.encoder_id, fitted_on, matrix)
                catalog.set_meta(writer.connection, "active_rotation", str(number))
            writer.refresh()

    def _has_documents(self) -> bool:
        return next(self._salvage.documents(), None) is not None

    def _end(self, writer: Writer) -> None:
        if writer.snapshot.encoder is None:
            return
        finish(writer)
        if self._encoder is not None:
            note_reading(writer, self._encoder)
        for uri in self._salvage.sources():
            writer.record_source(uri)

    def _changes(self, writer: Writer, window: Sequence[Saved]) -> list[Change]:
        """What is sound as it is stored; ``None`` where a text has to be encoded."""
        kept = [self._kept(writer, saved) for saved in window]
        torn = [saved for saved, passages in zip(window, kept, strict=True) if passages is None]
        made = self._made(writer, torn)
        changes = [
            Change(saved.stored.document, next(made) if passages is None else passages)
            for saved, passages in zip(window, kept, strict=True)
        ]
        self._done.passages += sum(len(change.passages) for change in changes)
        return changes

    def _kept(self, writer: Writer, saved: Saved) -> tuple[NewPassage, ...] | None:
        """The passages of a document with their vectors; None if any of it is lost."""
        made = writer.snapshot.tokens.format
        found = []
        for row, vector in zip(saved.passages or (), self._salvage.vectors_of(saved), strict=True):
            if vector is None or len(vector) != writer.width:
                return None
            codes = self._salvage.vectors.codes_of(row.vid, made)
            found.append(
                NewPassage(
                    row.start,
                    row.end,
                    row.text_hash,
                    vector,
                    row.tokens,
                    row.unknown,
                    bool(row.truncated),
                    codes,
                )  # fmt: skip
            )
        return tuple(found) or None

    def _made(self, writer: Writer, torn: Sequence[Saved]) -> Iterator[tuple[NewPassage, ...]]:
        """The passages of documents that are cut and encoded again, document by document."""
        if not torn:
            return
        encoder = self._model()
        require_same_model(writer, encoder)
        documents = [saved.stored.document for saved in torn]
        cut, texts = LongTexts(encoder, recorded_long_text(writer.connection)).cut(documents)
        made = encode(encoder, codec_of(writer, encoder), list(texts.values()))
        found = new_passages(writer, texts, made)
        for pieces in cut:
            self._done.computed += len(pieces)
            yield placed(pieces, found)

    def _model(self) -> Encoder:
        if self._encoder is None:
            self._encoder = self._load(self._salvage.encoder)
        return self._encoder
