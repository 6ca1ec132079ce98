"""What the tests of the store share: a small encoder's record, documents, and their vectors.

A vector is a pure function of the text, so that what an index holds can be checked at any time.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semsearch.collection import layout, writer
from semsearch.collection.changes import Change, NewPassage
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.snapshot import Snapshot
from semsearch.collection.writer import Writer
from semsearch.maxsim import TokenCodec
from semsearch.store.catalog import EncoderRow
from semsearch.store.passages import text_hash
from semsearch.types import Document

DIM = 8
TOKENS = 64
"""The width of this model's tokens."""
Model = Mapping[str, Document]


def small_sizes(patch) -> None:
    """Make an index reorganise itself after a handful of rows; ``patch(object, name, value)``."""
    patch(writer, "FLUSH_ROWS", 8)
    patch(layout, "FLUSH_ROWS", 8)
    patch(layout, "MERGE_COUNT", 3)
    patch(layout, "MERGE_LIMITS", (20, 60))
    patch(layout, "ROTATION_ROWS_PER_DIM", 2)
    patch(layout, "ROTATION_SAMPLE", 30)


def encoder_row(dim: int = DIM, matryoshka: Sequence[int] = ()) -> EncoderRow:
    return EncoderRow(
        1, "ab" * 32, "tiny", None, dim, json.dumps(list(matryoshka)), "{}", 64, "torch", "float32"
    )


def vector_of(text: str, dim: int = DIM) -> NDArray[np.float32]:
    """A unit vector that depends on the text alone; its energy falls from the last column on."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
    raw = np.random.default_rng(seed).standard_normal(dim) * np.linspace(0.3, 1.0, dim)
    return (raw / np.linalg.norm(raw)).astype(np.float32)


def codes_of(text: str) -> NDArray[np.uint8] | None:
    """Codes that depend on the text alone: 0 to 4 of them, or of one text in seven none stored."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[8:16], "little")
    if seed % 7 == 3:
        return None
    shape = (seed % 5, TokenCodec(TOKENS).width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def spans_of(content: str) -> list[tuple[int, int]]:
    """One passage for every 12 characters."""
    return [(at, min(at + 12, len(content))) for at in range(0, len(content), 12)]


def change_of(target: Writer, document: Document) -> Change:
    """The document with its passages, their vectors as this index stores them."""
    content, dim = document.content, encoder_dim(target.snapshot)
    passages = []
    for start, end in spans_of(content):
        text = content[start:end]
        vector = target.stored(vector_of(text, dim)[None])[0]
        passages.append(
            NewPassage(start, end, text_hash(text), vector, 3, 1, False, codes_of(text))
        )
    return Change(document, tuple(passages))


def put(target: Writer, documents: Iterable[Document]) -> int:
    return target.commit([change_of(target, document) for document in documents])


def encoder_dim(snapshot: Snapshot) -> int:
    assert snapshot.encoder is not None
    return snapshot.encoder.dim


def assert_holds(
    snapshot: Snapshot, reader: Reader, model: Model, *, all_codes: bool = True
) -> None:
    """The snapshot's live passages are those of ``model``, and every vector is its text's.

    Not ``all_codes``: some of those that were given may not be stored (yet).
    """
    rows = snapshot.rows
    ids = rows.ids
    assert np.all(ids[1:] > ids[:-1])
    alive = np.ones(len(rows), np.bool_) if snapshot.alive is None else snapshot.alive
    assert set(ids[~alive].tolist()) == set(snapshot.dead.tolist())
    owners = reader.documents_of(ids.tolist())
    passages = passages_of(reader, ids.tolist())
    found: dict[str, list[tuple[int, int]]] = {}
    for vid in ids[alive].tolist():
        found.setdefault(owners[vid].ext_id, []).append(passages[vid])
    assert found == {id: spans_of(document.content) for id, document in model.items()}
    assert {owners[vid].ext_id: owners[vid].document for vid in ids[alive].tolist()} == dict(model)
    assert snapshot.generation.n_document == len(model)
    assert snapshot.generation.n_passage == int(alive.sum()) == len(rows) - len(snapshot.dead)
    texts = [owners[vid].document.content[slice(*passages[vid])] for vid in ids.tolist()]
    assert_vectors(snapshot, texts)
    assert_tokens(snapshot, texts, all_codes=all_codes)


def assert_vectors(snapshot: Snapshot, texts: Sequence[str]) -> None:
    """Row for row: the text's vector, under the snapshot's rotation, cut to the stored width."""
    rows = snapshot.rows
    if not texts:
        return
    true = np.stack([vector_of(text, encoder_dim(snapshot)) for text in texts])
    stored = rows.take(np.arange(len(rows)))
    if snapshot.rotation is not None:
        rotation = snapshot.rotation
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(len(rotation)), atol=1e-5)
        if rows.dim == len(rotation):
            stored = stored @ rotation.T
        else:
            true = (true @ rotation)[:, : rows.dim]
    true = true[:, : rows.dim]
    cosine = (true * stored).sum(1) / np.linalg.norm(true, axis=1) / np.linalg.norm(stored, axis=1)
    assert cosine.min() >= 0.9999
    np.testing.assert_array_equal(rows.block(0, len(rows)), rows.take(np.arange(len(rows))))


def assert_tokens(snapshot: Snapshot, texts: Sequence[str], *, all_codes: bool = True) -> None:
    """Row for row: the text's codes, or none if none were stored or the index keeps none.

    A snapshot whose files a writer has replaced may have lost some, but has no wrong ones.
    """
    current = all((snapshot.layout.segments / row.name).exists() for row in snapshot.segments)
    kept = snapshot.tokens.format is not None
    expected = [codes_of(text) if kept else None for text in texts]
    present, found = snapshot.tokens.take(np.arange(len(texts)))
    wanted = [codes is not None for codes in expected]
    if current and all_codes:
        assert present.tolist() == wanted
        assert snapshot.tokens.missing().tolist() == np.flatnonzero(~present).tolist()
    assert set(np.flatnonzero(present)) <= set(np.flatnonzero(wanted))
    parts = np.split(found.codes, np.cumsum(found.counts)[:-1]) if texts else []
    for own, there, part in zip(expected, present.tolist(), parts, strict=True):
        if own is None or not there:
            assert len(part) == 0
        else:
            np.testing.assert_array_equal(part, own)


def passages_of(reader: Reader, vids: Sequence[int]) -> dict[int, tuple[int, int]]:
    from semsearch.store import passages

    found = passages.passages_of(reader.connection, vids)
    return {vid: (row.start, row.end) for vid, row in found.items()}


def files_in(folder: Path) -> set[str]:
    """Everything in the index folder but the lock and the catalog, by relative path."""
    place = Layout(folder)
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path not in (place.lock, place.catalog)
    }


def named_files(snapshot: Snapshot) -> set[str]:
    """The files that a generation refers to, by relative path."""
    segments = [name for row in snapshot.segments for name in (row.name, row.tok_name) if name]
    return {f"seg/{name}" for name in segments} | {
        f"ann/{row.name}" for row in snapshot.caches if row.kind == "faiss"
    }
