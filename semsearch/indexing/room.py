"""Whether there is room for what a run would write, asked before it is written.

Reckoned from a measured index: 7,586 documents, 3.1 MB of JSON lines, took 5.8 MB of catalog, 6.1
of vectors, 8.8 of tokens' codes and 0.7 of words. For a whole run it is on the low side: what is
refused would not have fitted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from semsearch.collection.beside import size_of
from semsearch.maxsim import POOLED
from semsearch.resources import require_batch_space, require_memory, require_space

if TYPE_CHECKING:
    from semsearch.collection.writer import Writer
    from semsearch.encoders import Encoder
    from semsearch.types import Document

_ROW = 400
"""Bytes in the catalog of a document and its passage, beside the text, and their words."""

_TOKEN = 4
"""Bytes of text that a token stands for."""

_PROGRAM = 100 * 10**6
"""Bytes of memory without the model."""

_LOOKED_AT = 1 << 20
"""Bytes at the beginning of a file that tell how long its lines are."""


class Amount(NamedTuple):
    """So much text, in bytes, in so many documents and passages."""

    text: int
    documents: int
    passages: int


def bytes_on_disk(amount: Amount, dims: int, code: int) -> int:
    """What an index keeps of it; ``code`` is the width in bytes of a token's code, or 0."""
    vectors = amount.passages * (8 + 2 * dims)
    codes = amount.text // (_TOKEN * POOLED) * code
    return amount.text + amount.documents * _ROW + vectors + codes


def require_room_for_batch(writer: Writer, changed: Iterable[Document], passages: int) -> None:
    """Raise StorageError where these documents would bring the disk below its floor."""
    documents = list(changed)
    text = sum(len(d.title) + len(d.text) + len(str(d.metadata)) for d in documents)
    amount = Amount(text, len(documents), passages)
    needed = bytes_on_disk(amount, writer.width, _code_width(writer))
    require_batch_space(writer.layout.folder, needed)


def require_room_for_run(
    writer: Writer, encoder: Encoder, corpus: Sequence[str], dims: int | None
) -> None:
    """Raise StorageError or OutOfMemory where a run over these files cannot fit.

    What is in the index already counts as written. Streams are not known and not asked for.
    """
    require_model_memory(encoder)
    files = [file for path in corpus for file in _files(Path(path))]
    text = sum(size for _, size in files)
    documents = sum(_lines(file, size) for file, size in files)
    passages = max(documents, text // (encoder.max_length * _TOKEN * 2))
    tokens = writer.snapshot.tokens.format
    code = encoder.token_dim // 8 if tokens is None and writer.snapshot.encoder is None else 0
    width = code or _code_width(writer)
    amount = Amount(text // 2, documents, passages)
    needed = bytes_on_disk(amount, dims or encoder.dim, width) - size_of(writer.layout.folder)
    if needed > 0:
        require_space(writer.layout.folder, needed, "this corpus")


def require_room_beside(live: Writer, beside: Writer, encoder: Encoder, dims: int | None) -> None:
    """Raise StorageError or OutOfMemory where a second index by another model cannot fit."""
    require_model_memory(encoder)
    passages = live.snapshot.generation.n_passage
    rows = (8 + 2 * (dims or encoder.dim)) * passages
    needed = live.layout.catalog.stat().st_size + rows - size_of(beside.layout.folder)
    if needed > 0:
        require_space(beside.layout.folder, needed, f"an index by {encoder.name}")


def require_room_to_compact(writer: Writer) -> None:
    """Raise StorageError or OutOfMemory where an index cannot be written anew beside itself."""
    catalog = writer.layout.catalog.stat().st_size
    snapshot = writer.snapshot
    live = len(snapshot.rows) - len(snapshot.dead)
    share = live / max(1, len(snapshot.rows))
    # the catalog's old pages are kept until it is written anew, which happens in memory
    require_memory(catalog, f"{writer.layout.folder}: compacting")
    needed = catalog + share * size_of(writer.layout.segments)
    require_space(writer.layout.folder, needed, "compacting")


def require_model_memory(encoder: Encoder) -> None:
    """Raise OutOfMemory where the model's weights cannot fit."""
    weights = getattr(encoder.config, "weights", ())
    needed = sum(file.stat().st_size for file in weights) + _PROGRAM
    require_memory(needed, encoder.name)


def _code_width(writer: Writer) -> int:
    made = writer.snapshot.tokens.format
    return made.width if made else 0


def _files(path: Path) -> Iterator[tuple[Path, int]]:
    """The files of a corpus with their sizes; what cannot be read is the reader's to tell."""
    try:
        if path.is_file():
            yield path, path.stat().st_size
        elif path.is_dir():
            for folder, _, names in os.walk(path):
                for name in names:
                    file = Path(folder, name)
                    if file.suffix in (".txt", ".md", ".markdown") and not file.is_symlink():
                        yield file, file.stat().st_size
    except OSError:
        return


def _lines(file: Path, size: int) -> int:
    """About how many documents a file holds: one a line where they are lines, else one."""
    if file.suffix not in (".jsonl", ".ndjson", ".csv", ".tsv") or not size:
        return 1
    try:
        with open(file, "rb") as opened:
            beginning = opened.read(_LOOKED_AT)
    except OSError:
        return 1
    return max(1, beginning.count(b"\n") * size // len(beginning))
