"""An encoder that needs no model, and indexes made with it: small, fast, the same on any machine.

A text's vector is the sum of its words' vectors, and a word's depends on its letters alone, so
every score can be computed again in a test.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from semsearch.collection import vector_build
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from semsearch.encoders import Encoded, Encoder, open_encoder
from semsearch.encoders.tokens import Tokenized
from semsearch.index import build, faiss_index
from semsearch.index.faiss_index import FaissIndex
from semsearch.indexing import Source, Summary, run_indexing
from semsearch.search import candidates
from semsearch.search.facade import Index
from semsearch.search.searcher import Searcher
from semsearch.types import Document

if TYPE_CHECKING:
    from semsearch.encoders import TokenSink
    from semsearch.types import Floats

_BATCH = 16
WORDS = [a + b + c for a in "bcdfghklmn" for b in "aio" for c in "lr"]


class FakeTokens:
    """Words as tokens, with what cutting into passages uses of ``semsearch.encoders.Tokens``."""

    special_tokens = 2

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length

    def length(self, text: str) -> int:
        return len(_words(text))

    def offsets(self, text: str) -> np.ndarray:
        found = [match.span() for match in re.finditer(r"\w+", text)]
        return np.array(found, np.int64).reshape(-1, 2)

    def tokenize(self, texts: Sequence[str]) -> list[Tokenized]:
        rows = [np.zeros(len(_words(text)) + 2, np.int64) for text in texts]
        most = self.max_length
        return [Tokenized(row[:most], len(row), len(row) > most, 0) for row in rows]


class FakeEncoder:
    """Hashed words, with what indexing and searching use of ``semsearch.encoders.Encoder``.

    ``documents`` and ``queries`` list every text that was encoded, in order. ``before_batch`` is
    called before each batch of documents with its number in this encoder's life.
    """

    runtime = "fake"
    precision = "float32"

    def __init__(
        self,
        dim: int = 32,
        name: str = "fake",
        *,
        matryoshka_dims: tuple[int, ...] = (),
        max_length: int = 64,
        before_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.dim = self.token_dim = dim
        self.max_length = max_length
        self.matryoshka_dims = matryoshka_dims
        self.prompts: dict[str, str] = {}
        self.config = SimpleNamespace(document_prompt="")
        self.folder = Path("no-folder")  # so it has no card
        self.tokens = FakeTokens(max_length)
        identity = f"{name} {dim} {matryoshka_dims} {max_length}"
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()
        self.before_batch = before_batch
        self.documents: list[str] = []
        self.queries: list[str] = []
        self.calls = 0
        self._batches = 0
        self._known: dict[str, np.ndarray] = {}

    def encode_documents(
        self,
        texts: Sequence[str],
        progress: Callable[[int], None] | None = None,
        token_sink: "TokenSink | None" = None,
    ) -> Encoded:
        self.calls += 1
        parts = [self._encode([])]
        for start in range(0, len(texts), _BATCH):
            self._batches += 1
            self.before_batch(self._batches)
            batch = texts[start : start + _BATCH]
            self.documents += batch
            parts.append(self._encode(batch))
            if token_sink is not None:
                self._give_tokens(texts, start, token_sink)
            if progress is not None:
                progress(len(batch))
        return Encoded(
            np.concatenate([part.vectors for part in parts]),
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.truncated for part in parts]),
            np.concatenate([part.unknown for part in parts]),
        )

    def encode_queries(
        self, texts: Sequence[str], token_sink: "TokenSink | None" = None
    ) -> Encoded:
        self.calls += 1
        self.queries += texts
        if token_sink is not None:
            for start in range(0, len(texts), _BATCH):
                self._give_tokens(texts, start, token_sink)
        return self._encode(texts)

    def token_vectors(self, text: str) -> "Floats":
        """The unit vectors of a text's words, float32 (n, token_dim)."""
        words = re.findall(r"\w+", text.lower())[: self.max_length - 2]
        rows = np.array([self._word(word) for word in words]).reshape(len(words), self.dim)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def _give_tokens(self, texts: Sequence[str], start: int, token_sink: "TokenSink") -> None:
        """As the real one does: a batch's texts, of equal ones only the first."""
        places = range(start, min(start + _BATCH, len(texts)))
        first = [at for at in places if texts.index(texts[at]) == at]
        rows = [self.token_vectors(texts[at]) for at in first]
        if rows:
            lengths = np.array([len(row) for row in rows], np.int64)
            token_sink(np.array(first, np.int64), lengths, np.concatenate(rows))

    def vector(self, text: str) -> "Floats":
        """The unit vector of one text, float32 (dim,)."""
        words = _words(text)[: self.max_length - 2]
        total = np.sum([self._word(word) for word in words], axis=0)
        return (total / np.linalg.norm(total)).astype(np.float32)

    def _encode(self, texts: Sequence[str]) -> Encoded:
        vectors = np.array([self.vector(text) for text in texts], np.float32)
        lengths = np.array([len(_words(text)) + 2 for text in texts], np.int64)
        unknown = [sum(not word.isascii() for word in _words(text)) for text in texts]
        return Encoded(
            vectors.reshape(len(texts), self.dim),
            lengths,
            lengths > self.max_length,
            np.array(unknown, np.int64),
        )

    def _word(self, word: str) -> np.ndarray:
        if word not in self._known:
            digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
            raw = np.random.default_rng(int.from_bytes(digest[:8], "little"))
            # Most of the energy stands in the last columns, so that a rotation has work to do.
            spread = raw.standard_normal(self.dim) * np.linspace(0.2, 1.0, self.dim)
            self._known[word] = spread
        return self._known[word]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower()) or [text]


def make_documents(count: int, seed: int = 0, words: int = 8) -> list[Document]:
    """Documents of random words with metadata: a number, a text, a list, a flag; some lack some."""
    random = np.random.default_rng(seed)
    made = []
    for n in range(count):
        text = " ".join(random.choice(WORDS, words))
        metadata: dict[str, Any] = {"n": n, "year": int(random.integers(2000, 2020))}
        if n % 3:
            metadata["lang"] = str(random.choice(["en", "de", "si"]))
        if n % 4 == 0:
            metadata["tags"] = [str(tag) for tag in random.choice(["a", "b", "c"], 2)]
        if n % 5 == 0:
            metadata["draft"] = bool(n % 2)
        made.append(Document(f"d{n:04}", text, f"title {n}", metadata, "made", n + 1))
    return made


def index_into(
    folder: Path,
    encoder: Any,
    documents: Iterable[Document],
    uri: str = "corpus.jsonl",
    *,
    prunable: bool = True,
    **options: Any,
) -> Summary:
    """One indexing run over one source."""
    with open_for_writing(Layout(folder)) as writer:
        return run_indexing(writer, encoder, [Source(uri, documents, prunable)], **options)


def searching(folder: Path, encoder: Any) -> Searcher:
    """A searcher that uses this encoder whatever the index says."""
    return Searcher(Reader(folder), lambda _: encoder)


def opened(folder: Path, encoder: Any) -> Index:
    """The Python interface with this encoder."""
    index = Index(folder, None)
    index._encoder = encoder
    return index


def dump(folder: Path) -> list[tuple[Any, ...]]:
    """Everything that searching depends on, in the order of the vids: documents and vectors."""
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        vids = snapshot.rows.ids
        if snapshot.alive is not None:
            vids = vids[snapshot.alive]
        owners = reader.documents_of(vids.tolist())
        vectors = snapshot.rows.take(snapshot.ordinals(vids))
        return [
            (vid, row.ext_id, row.source, row.title, row.body, row.meta, vector.tobytes())
            for (vid, row), vector in zip(sorted(owners.items()), vectors, strict=True)
        ]


def contents(folder: Path) -> dict[str, Document]:
    """The live documents by id."""
    with Reader(folder) as reader:
        return {document.id: document for document in reader.documents()}


@cache
def real_encoder() -> Encoder:
    """all-MiniLM-L6-v2 as the installed package ships it; converted once a session."""
    return open_encoder("all-MiniLM-L6-v2", local_only=True)


def lower_limits(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Treat an index of more than ``rows`` passages as a large one: FAISS, filters by fetching."""
    for module in (candidates, vector_build, build, faiss_index):
        monkeypatch.setattr(module, "EXACT_ROWS", rows)
    monkeypatch.setattr(Reader.vids_matching, "__defaults__", (rows,))
    defaults = (FaissIndex.__init__.__kwdefaults__ or {}) | {"exact_rows": rows}
    monkeypatch.setattr(FaissIndex.__init__, "__kwdefaults__", defaults)
