"""One indexing run: adopt the model, index the sources, put the index in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from semsearch.collection.language import recorded_language
from semsearch.collection.layout import FLUSH_ROWS
from semsearch.collection.lexical_cache import build_lexical_cache
from semsearch.collection.maintain import compact, fit_rotation_if_due
from semsearch.collection.reading import record_reading
from semsearch.collection.vector_build import build_vector_cache
from semsearch.collection.writer import Writer
from semsearch.encoders.card import card_languages
from semsearch.errors import InputError, Mismatch, UsageError
from semsearch.indexing.indexer import Indexer, reorganise
from semsearch.indexing.long_text import settle_long_text
from semsearch.indexing.model import require_same_model
from semsearch.indexing.source import Source
from semsearch.indexing.summary import OnDuplicate, Summary
from semsearch.indexing.token_vectors import settle_token_vectors
from semsearch.store import catalog
from semsearch.store.rows import canonical_json

if TYPE_CHECKING:
    from semsearch.encoders import Encoder


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
    model or at another width, InputError for bad documents, StorageError. Long texts are treated as
    the index does (``choose_long_text``), token vectors kept as it does (``choose_token_vectors``;
    a new index keeps them).
    """
    long_text = settle_long_text(writer)
    _adopt(writer, encoder, dims)
    indexer = Indexer(
        writer,
        encoder,
        long_text=long_text,
        on_duplicate=on_duplicate,
        prune=prune,
        progress=progress,
    )
    try:
        summary = indexer.run(sources)
    except InputError:  # what came before is committed: make it quick to search
        if writer.usable:
            finish(writer)
        raise
    finish(writer)
    note_reading(writer, encoder)
    for source in sources:
        if source.prunable:
            writer.record_source(source.uri)
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


def note_reading(writer: Writer, encoder: Encoder) -> None:
    """Keep how well the encoder reads the corpus, for searches to weigh vectors and words by."""
    record_reading(writer, card_languages(encoder.folder), recorded_language(writer.connection))


def check_dims(encoder: Encoder, dims: int | None) -> None:
    """Raise UsageError for a width to store that the model does not have."""
    if dims is not None and not 1 <= dims <= encoder.dim:
        raise UsageError(f"--dims {dims}: {encoder.name} makes vectors of {encoder.dim} dimensions")


def _adopt(writer: Writer, encoder: Encoder, dims: int | None) -> None:
    require_fit(writer, encoder, dims)
    if writer.snapshot.encoder is None:
        width = settle_token_vectors(writer, encoder)
        writer.adopt_encoder(encoder_row(encoder), dims or encoder.dim, width)


def require_fit(writer: Writer, encoder: Encoder, dims: int | None) -> None:
    """Raise Mismatch or UsageError unless an index can go on with this model at this width."""
    check_dims(encoder, dims)
    if writer.snapshot.encoder is None:
        return
    require_same_model(writer, encoder)
    if dims is not None and dims != writer.snapshot.dims:
        raise Mismatch(
            f"{writer.layout.folder}: the index stores {writer.snapshot.dims} dimensions: leave out"
            " --dims (a query can be cut with its own --dims), or make a new index with -i"
        )


def encoder_row(encoder: Encoder) -> catalog.EncoderRow:
    """What the catalog records of an encoder."""
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
