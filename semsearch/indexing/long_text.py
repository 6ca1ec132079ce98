"""What becomes of texts longer than the model reads: cut into passages, cut off, or refused.

The choice belongs to the index: it holds from the run that made it until another is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from semsearch.collection.changes import NewPassage
from semsearch.encoders.passages import Cutter, Span
from semsearch.errors import InputError, UsageError
from semsearch.store import catalog
from semsearch.store.passages import Extent, text_hash
from semsearch.types import Document

if TYPE_CHECKING:
    import sqlite3

    from semsearch.collection.writer import Writer
    from semsearch.encoders import Encoder

LongText = Literal["chunk", "truncate", "error"]
LONG_TEXT: tuple[LongText, ...] = get_args(LongText)
DEFAULT: LongText = "chunk"
"""nDCG@10 on scifact and faquad-pt, cut off and in passages: of vectors 0.646 and 0.664, 0.521 and
0.546; of words 0.687 and 0.678, 0.894 and 0.901; of both 0.716 and 0.721, 0.805 and 0.814."""

_KEY = "long_text"
_BEFORE: LongText = "truncate"
"""What an index does that was made before there was a choice."""


def choose_long_text(writer: Writer, choice: str) -> None:
    """From now on treat long texts so; documents of which it was otherwise change when read again.

    Raises UsageError for another word than those of ``LONG_TEXT``.
    """
    if choice not in LONG_TEXT:
        raise UsageError(f"--long-text {choice}: choose one of {', '.join(LONG_TEXT)}")
    if catalog.get_meta(writer.connection, _KEY) != choice:
        with writer.transaction():
            catalog.set_meta(writer.connection, _KEY, choice)


def settle_long_text(writer: Writer) -> LongText:
    """The choice of an index; a new one without any gets the default."""
    if catalog.get_meta(writer.connection, _KEY) is None and writer.snapshot.encoder is None:
        choose_long_text(writer, DEFAULT)
    return recorded_long_text(writer.connection)


def recorded_long_text(connection: sqlite3.Connection) -> LongText:
    """The choice of an index that has documents."""
    recorded = catalog.get_meta(connection, _KEY)
    return next((choice for choice in LONG_TEXT if choice == recorded), _BEFORE)


class Piece(NamedTuple):
    """A passage to be: its span in the document's content, and the hash of its text."""

    span: Span
    text_hash: bytes


class LongTexts:
    """Cuts the documents of one run as its index wants it."""

    def __init__(self, encoder: Encoder, choice: LongText) -> None:
        self._choice = choice
        self._encoder = encoder

    def cut(self, documents: Sequence[Document]) -> tuple[list[list[Piece]], dict[bytes, str]]:
        """The passages of each document, and their texts by hash.

        Raises InputError for a document that is refused.
        """
        pieces: list[list[Piece]] = []
        texts: dict[bytes, str] = {}
        for document, spans in zip(documents, self._spans(documents), strict=True):
            found = [document.passage(start, end) for start, end in spans]
            hashes = [text_hash(text) for text in found]
            texts.update(zip(hashes, found, strict=True))
            pieces.append([Piece(s, h) for s, h in zip(spans, hashes, strict=True)])
        return pieces, texts

    def _spans(self, documents: Sequence[Document]) -> list[list[Span]]:
        if self._choice == "truncate":
            return [[Span(0, len(document.content))] for document in documents]
        found = Cutter(self._encoder.tokens, self._encoder.config.document_prompt).cut(documents)
        if self._choice == "error":
            for document, spans in zip(documents, found, strict=True):
                if len(spans) > 1:
                    self._refuse(document)
        return found

    def extent(self, passages: Sequence[NewPassage]) -> Extent:
        """What the passages of one document hold of it."""
        short = [passage for passage in passages if passage.truncated]
        lost = sum(max(passage.tokens - self._encoder.max_length, 0) for passage in short)
        return Extent(len(passages), len(short), lost)

    def is_outdated(self, stored: Extent) -> bool:
        """Whether a document with these passages would be cut otherwise today."""
        several, cut = stored.passages > 1, stored.truncated > 0
        return {"chunk": cut and not several, "truncate": several, "error": cut or several}[
            self._choice
        ]

    def _refuse(self, document: Document) -> None:
        encoder = self._encoder
        (found,) = encoder.tokens.tokenize([encoder.config.document_prompt + document.content])
        least = "at least " if len(document.content) > 64 * encoder.max_length else ""
        raise InputError(
            f"document {document.id!r} has {least}{found.length:,} tokens, and {encoder.name}"
            f" reads {encoder.max_length:,}: shorten it, or choose --long-text chunk or"
            " truncate",
            document.source or None,
            document.line,
        )
