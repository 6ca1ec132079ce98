"""Codes of the tokens of what is indexed: whether to keep them, and making them.

The choice belongs to the index: it holds from the run that made it until another is made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from semsearch.collection.token_fill import fill_tokens
from semsearch.indexing.model import require_same_model
from semsearch.maxsim import TokenCodec
from semsearch.store import catalog, documents, passages

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from semsearch.collection.writer import Writer
    from semsearch.encoders import Encoder
    from semsearch.types import Floats, Ints

log = logging.getLogger("semsearch")

_AT_ONCE = 16_384
"""Passages whose codes are committed together: each time a segment's file is written anew."""

_READ = 1_024
"""Texts that are held at once."""


class CodeSink:
    """Takes the vectors of texts' tokens while they are encoded, and keeps their codes alone.

    ``codes`` holds those of each text, uint8 (c, width); None for one that none were given of.
    """

    def __init__(self, codec: TokenCodec, texts: int) -> None:
        self._codec = codec
        self.codes: list[NDArray[np.uint8] | None] = [None] * texts

    def __call__(self, positions: Ints, lengths: Ints, rows: Floats) -> None:
        """What ``Encoder.encode_documents`` calls for each batch (TokenSink)."""
        made = self._codec.encode(rows, lengths)
        each = np.split(made.codes, np.cumsum(made.counts)[:-1])
        for position, codes in zip(positions.tolist(), each, strict=True):
            self.codes[position] = codes


def choose_token_vectors(writer: Writer, encoder: Encoder) -> None:
    """From now on keep the codes of tokens; ``complete_tokens`` makes those of what is stored.

    Raises Mismatch for another model than the index's.
    """
    require_same_model(writer, encoder)
    width = _width(encoder)
    if _recorded(writer) != width:
        writer.keep_tokens(width)


def refuse_token_vectors(writer: Writer) -> None:
    """From now on keep no codes of tokens; those that are stored go when it is next compacted."""
    if _recorded(writer) != 0:
        writer.keep_tokens(0)


def settle_token_vectors(writer: Writer, encoder: Encoder) -> int:
    """The width of the tokens whose codes a new index keeps: all of them, unless it was chosen."""
    recorded = _recorded(writer)
    return _width(encoder) if recorded is None else recorded


def codec_of(writer: Writer, encoder: Encoder) -> TokenCodec | None:
    """What makes the codes that an index keeps; None if it keeps none."""
    made = writer.snapshot.tokens.format
    return None if made is None else TokenCodec(encoder.token_dim)


def complete_tokens(
    writer: Writer, encoder: Encoder, progress: Callable[[int], None] | None = None
) -> int:
    """Make the codes that stored passages lack, from their texts; returns how many passages.

    ``progress`` is called with the number of passages done since the last call. What is done is
    committed some at a time, so a run that was stopped goes on where it was. Raises Mismatch for
    another model than the index's, ModelError, StorageError, Corrupt.
    """
    require_same_model(writer, encoder)
    codec = codec_of(writer, encoder)
    done = 0
    if codec is None:
        return done
    for vids in _lacking(writer):
        codes: list[NDArray[np.uint8] | None] = []
        for start in range(0, len(vids), _READ):
            texts = _texts(writer, vids[start : start + _READ])
            places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
            sink = CodeSink(codec, len(places))  # of equal texts it is given the first
            encoder.encode_documents(list(places), None, sink)
            codes += [sink.codes[places[text]] for text in texts]
            if progress is not None:
                progress(len(texts))
        fill_tokens(writer, vids, codes)
        done += len(vids)
    return done


def _texts(writer: Writer, vids: Ints) -> list[str]:
    """The texts of these passages."""
    found = passages.passages_of(writer.connection, vids)
    owners = documents.documents_of(writer.connection, {p.doc_id for p in found.values()})
    rows = [found[vid] for vid in vids.tolist()]
    return [owners[p.doc_id].document.passage(p.start, p.end) for p in rows]


def _lacking(writer: Writer) -> Iterator[Ints]:
    """The vids of live passages without codes, some at a time, each time of one segment."""
    snapshot = writer.snapshot
    ordinals = snapshot.tokens.missing()
    if snapshot.alive is not None:
        ordinals = ordinals[snapshot.alive[ordinals]]
    vids = snapshot.rows.ids[ordinals]
    ends = np.array([row.last_vid for row in snapshot.segments], np.int64)
    owner = np.searchsorted(ends, vids)
    for number in np.unique(owner).tolist():
        of_one = vids[owner == number]
        for start in range(0, len(of_one), _AT_ONCE):
            yield of_one[start : start + _AT_ONCE]


def _recorded(writer: Writer) -> int | None:
    recorded = catalog.get_meta(writer.connection, catalog.CODED_WIDTH)
    return None if recorded is None else int(recorded)


def _width(encoder: Encoder) -> int:
    if not encoder.token_dim:
        log.warning("%s gives no vectors of its tokens: none are kept", encoder.name)
    return encoder.token_dim
