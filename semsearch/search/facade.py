"""The Python interface in five lines: open an index, add documents, search.

What writes is imported where it is used: a query that starts cold does without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.snapshot import Snapshot
from semsearch.errors import Mismatch
from semsearch.search.options import Mode, Options
from semsearch.search.searcher import Searcher
from semsearch.store.database import no_index
from semsearch.store.filters import parse_filter
from semsearch.types import Document, Hit

if TYPE_CHECKING:
    from semsearch.encoders import Encoder
    from semsearch.encoders.runtimes.choose import Precision
    from semsearch.indexing import LongText, OnDuplicate, Summary
    from semsearch.search.duplicates import Group
    from semsearch.store.catalog import EncoderRow


class Index:
    """An index folder with its model: add documents, search them. Made by ``semsearch.open``."""

    def __init__(
        self, folder: str | Path, model: str | Path | None, precision: Precision = "auto"
    ) -> None:
        self.folder = Path(folder)
        self._model = model
        self._precision: Precision = precision
        self._encoder: Encoder | None = None
        self._opened_for: str | None = None
        self._reader: Reader | None = None
        self._searcher: Searcher | None = None

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; the index can be used again and opens them anew."""
        if self._reader is not None:
            self._reader.close()
            self._reader = self._searcher = None

    @property
    def exists(self) -> bool:
        """Whether there is an index in the folder yet."""
        return Layout(self.folder).catalog.is_file()

    @property
    def reader(self) -> Reader:
        """The open catalog. Raises NotFound when there is no index yet."""
        if self._reader is None:
            self._reader = Reader(self.folder)
        return self._reader

    @property
    def searcher(self) -> Searcher:
        """The engine behind ``search``. Raises NotFound when there is no index yet."""
        if self._searcher is None:
            self._searcher = Searcher(self.reader, self.encoder_for)
        return self._searcher

    def encoder_for(self, snapshot: Snapshot) -> Encoder:
        """The encoder that made the vectors of a snapshot, from local files only.

        An index in int8 goes on in int8; where that cannot be computed ``auto`` serves, and one
        warning says so. Raises NotFound (no such model here), Mismatch (another precision was
        asked for), UsageError (a new index cannot have it here).
        """
        recorded = snapshot.encoder
        if self._encoder is None or self._is_outdated(recorded):
            from semsearch.encoders import open_encoder
            from semsearch.encoders.resolve import DEFAULT_MODEL

            name = str(self._model or (recorded.name if recorded else DEFAULT_MODEL))
            if Path(name).is_dir():  # found again from wherever the index is used
                name = str(Path(name).resolve())
            self._encoder = open_encoder(
                name,
                precision=self._precision_for(recorded),
                local_only=recorded is not None,
                or_auto=self._precision == "auto",
            )
            self._opened_for = (recorded or self._encoder).fingerprint
        return self._encoder

    def adopt(self, encoder: Encoder) -> None:
        """Use an encoder that is open already; one that is not the index's is refused when used."""
        self._encoder = encoder

    def _is_outdated(self, recorded: EncoderRow | None) -> bool:
        """Whether another model took the place of the one that was opened: no other was asked."""
        if self._model is not None or recorded is None or self._opened_for is None:
            return False
        return self._opened_for != recorded.fingerprint

    def _precision_for(self, recorded: EncoderRow | None) -> Precision:
        """The one asked for, or int8 if that is the index's."""
        if recorded is None:
            return self._precision
        if self._precision not in ("auto", recorded.precision):
            raise Mismatch(
                f"{self.folder}: the index was made in {recorded.precision}, not in"
                f" {self._precision}: leave out the precision, or make a new index with -i"
            )
        return "int8" if recorded.precision == "int8" else self._precision

    def add(
        self,
        documents: Iterable[Document],
        *,
        source: str = "python",
        on_duplicate: OnDuplicate = "error",
        long_text: LongText | None = None,
        language: str | None = None,
        token_vectors: bool | None = None,
    ) -> Summary:
        """Add or update documents; unchanged ones are not encoded again. Nothing is deleted.

        ``long_text`` says what to do from now on with texts longer than the model reads: ``chunk``
        cuts them into passages, ``truncate`` cuts them off, ``error`` refuses them. None goes on as
        the index did. ``language`` (ISO 639-1, or ``none``) stems words from now on as it does;
        without any it is detected when the first words are written. ``token_vectors`` says whether
        to keep the vectors of tokens from now on, compressed, for reranking (a new index does):
        True makes those of what is stored without, False drops them when it is next compacted.

        They are checked and mended as those of files are (``read_corpus``). Raises InputError
        naming a bad one by its number; windows of documents before it stay committed.
        """
        from semsearch.collection.language import choose_language
        from semsearch.collection.writer import open_for_writing
        from semsearch.indexing import (
            Source,
            choose_long_text,
            choose_token_vectors,
            complete_tokens,
            refuse_token_vectors,
            run_indexing,
        )

        corpus = Source(source, _checked(documents, source), prunable=False)
        with open_for_writing(Layout(self.folder)) as writer:
            if long_text is not None:
                choose_long_text(writer, long_text)
            if language is not None:
                choose_language(writer, language)
            encoder = self.encoder_for(writer.snapshot)
            if token_vectors:
                choose_token_vectors(writer, encoder)
            elif token_vectors is not None:
                refuse_token_vectors(writer)
            summary = run_indexing(writer, encoder, [corpus], on_duplicate=on_duplicate)
            if token_vectors:
                complete_tokens(writer, encoder)
            return summary

    def delete(self, ids: Sequence[str]) -> list[str]:
        """Delete documents; returns the ids that were there. Raises NotFound without an index."""
        from semsearch.collection.writer import open_for_writing

        self.require()
        with open_for_writing(Layout(self.folder)) as writer:
            return writer.delete(ids)

    def search(  # noqa: PLR0913 - each is an option of `semsearch query`, and none is needed
        self,
        text: str,
        k: int = 10,
        *,
        mode: Mode = "hybrid",
        dims: int | None = None,
        filters: Sequence[str] = (),
        min_score: float | None = None,
        rerank: str | None = None,
        diversity: float = 0.0,
        explain: bool = False,
    ) -> list[Hit]:
        """The best ``k`` documents, best first; ``filters`` such as ``["year>=2020"]``.

        ``rerank`` is ``self``, ``none`` or a cross-encoder; ``diversity``, 0 to 1, orders hits so
        that they differ. With ``explain`` each hit has its ``explanation``.
        """
        conditions = parse_filter(filters)
        options = Options(mode, dims, conditions, min_score, rerank=rerank, diversity=diversity)
        if explain:
            return self.searcher.explain(text, k, options)[1]
        return self.searcher.search(text, k, options)

    def duplicates(
        self,
        *,
        threshold: float = 0.95,
        words: float = 0.5,
        filters: Sequence[str] = (),
    ) -> Iterator[Group]:
        """Groups of documents that are copies, then of those nearly the same, as they are found.

        ``threshold`` is the lowest cosine, ``words`` the lowest share of words in common; see
        ``semsearch.search.duplicates``.
        """
        from semsearch.search.duplicates import find_duplicates

        self.searcher.refresh()
        conditions = parse_filter(filters)
        return find_duplicates(
            self.reader,
            self.searcher.source,
            threshold=threshold,
            words=words,
            conditions=conditions,
        )

    def get(self, document_id: str) -> Document:
        """A live document. Raises NotFound."""
        return self.reader.find(document_id).document

    def documents(self) -> Iterator[Document]:
        """Every live document, in the order of insertion."""
        return self.reader.documents()

    def __len__(self) -> int:
        """The number of live documents."""
        return self.reader.snapshot().generation.n_document if self.exists else 0

    def require(self) -> None:
        """Raise NotFound unless there is an index in the folder."""
        if not self.exists:
            raise no_index(self.folder)


def _checked(documents: Iterable[Document], source: str) -> Iterator[Document]:
    from semsearch.corpus.fields import Fields

    fields = Fields("id", "text")
    for number, d in enumerate(documents, start=1):
        record = {"id": d.id, "text": d.text, "title": d.title, "metadata": dict(d.metadata)}
        yield fields.document(record, d.source or source, d.line or number)


def open(  # noqa: A001
    folder: str | Path = ".semsearch",
    model: str | Path | None = None,
    precision: Precision = "auto",
) -> Index:
    """Open an index folder, which need not exist yet.

    ``model`` is a sentence-transformers folder or name, ``precision`` what it computes in:
    ``float32``, ``bf16``, ``fp16`` or ``int8``, which needs a CPU with VNNI or AMX. An index that
    exists has its own of both, and refuses others (Mismatch, when it is first used).
    """
    return Index(folder, model, precision)
