"""Golden indexes, each kept as a release made it: ``python -m tests.faults.golden NAME``.

python -m tests.faults.golden format-1-now          writes tests/golden/format-1-now.*

For an earlier release run this same file with that release's code, in a worktree of its commit: it
uses nothing that the first release did not have. ``format-1-first`` was made so, with d227bfc, the
release 0.1.0: no token vectors, no language, no setting of how long texts are treated.

What is made once is never made again: a release that wrote something new adds an index.
"""

import argparse
import gzip
import hashlib
import json
import tarfile
import tempfile
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semsearch.collection import layout
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from semsearch.index import build
from semsearch.indexing import Source, run_indexing
from semsearch.search import searcher
from semsearch.search.searcher import Searcher
from semsearch.store.filters import parse_filter
from semsearch.types import Document
from tests.fakes import WORDS, FakeEncoder
from tests.store_model import small_sizes

try:
    vector_build: Any = import_module("semsearch.collection.vector_build")
except ImportError:  # an early release
    vector_build = import_module("semsearch.collection.vector_cache")

PLACE = Path(__file__).resolve().parents[1] / "golden"
DIM = 16
LONG = "a value too long for the index of fields " * 8
QUERIES = ("bar dor gil kol", "mar fal changed", "中文 සිංහල naïve", "title 7")
MOST = 250
_OPTIONS: Any = vars(searcher)["Options"]  # an early release has it there alone


class GoldenEncoder(FakeEncoder):
    """Of a word's letters alone, by nothing but SHA-256: the same with any version of anything."""

    def __init__(self) -> None:
        super().__init__(DIM, "golden", max_length=24)
        self.fingerprint = "90" * 32

    def _word(self, word: str) -> Any:
        if word not in self._known:
            digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
            raw = np.frombuffer(digest, np.uint16).astype(np.float64) / 65535 - 0.5
            self._known[word] = raw * np.linspace(0.2, 1.0, self.dim)
        return self._known[word]


def sizes(patch: Any) -> None:
    """Segments, rotation and FAISS for a handful of rows."""
    small_sizes(patch.setattr)
    patch.setattr(layout, "MERGE_COUNT", 30)
    for module in (vector_build, build):
        patch.setattr(module, "EXACT_ROWS", 20)


def document(number: int, words: int = 6) -> Document:
    """One of the plain ones; metadata of every kind in turn."""
    letters = hashlib.sha256(f"golden {number}".encode()).digest()
    text = " ".join(WORDS[letter % len(WORDS)] for letter in (letters * 9)[:words])
    values: list[Any] = [
        number, number / 8, 10**20 + number, "plain", LONG + str(number), True, None,
        ["a", "b", number], {"inner": [1, {"deep": "value"}]}, "中文", "", -0.5,
    ]  # fmt: skip
    metadata = {"n": number, "kind": values[number % len(values)], "year": 2000 + number % 20}
    return Document(f"d{number:03}", text, f"title {number}", metadata, "first.jsonl", number + 1)


STRANGE: list[Any] = [
    ("unicode/中文", "中文 搜索 引擎", "標題", {"lang": "zh"}),
    ("unicode/සිංහල", "සිංහල භාෂාව", "", {"lang": "si"}),
    ("unicode/naïve", "naïve e\u0301 \u202eright to left\u202c 🙂 a\u0000b", "Ünï", {"ключ": "ж"}),
    (" spaces  in id ", "dor mal", "   ", {}),
    ("quote'\"--;", "bar gil", "it's; DROP TABLE document", {"a'b\"c": "x'y"}),
    ("x" * 300, "kol " * 3, "a long id", {"empty": [], "nested": {"a": {}}}),
]  # fmt: skip


def documents() -> list[Document]:
    """Plain ones, long ones of several passages, strange ones."""
    plain = [document(n, 60 if n % 13 == 0 else 6) for n in range(170)]
    strange = [
        Document(id, text, title, metadata, "strange.csv", n)
        for n, (id, text, title, metadata) in enumerate(STRANGE, start=2)
    ]
    return [*plain, *strange]


def make(folder: Path) -> None:
    """In several runs, so that there are segments, dead rows and rows in no segment."""
    every = documents()
    encoder: Any = GoldenEncoder()
    with open_for_writing(Layout(folder)) as writer:
        _choose(writer)
        run_indexing(writer, encoder, [Source("first.jsonl", every[:120])])
        vector_build.choose_kind(writer, "SQ8")
        run_indexing(writer, encoder, [Source("first.jsonl", every[120:170])])
        run_indexing(writer, encoder, [Source("strange.csv", every[170:])])
        vector_build.build_vector_cache(writer, force=True)
        writer.delete([d.id for d in every[3:160:19]])
        changed = [
            Document(d.id, f"changed {d.text}", d.title, d.metadata, d.source, d.line)
            for d in every[5:6]
        ]
        run_indexing(writer, encoder, [Source("changed.jsonl", changed)])


def _choose(writer: Any) -> None:
    """What an index may be told from the beginning, where the release knows of it."""
    try:
        from semsearch.indexing import choose_long_text
    except ImportError:  # an early release
        return
    choose_long_text(writer, "chunk")


def expected(folder: Path) -> dict[str, Any]:
    """What an index answers, as JSON values."""
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        vids = np.setdiff1d(snapshot.rows.ids, snapshot.dead)
        owners = reader.documents_of(vids.tolist())
        rows = snapshot.rows.take(snapshot.ordinals(vids))
        if snapshot.rotation is not None:
            rows = rows @ snapshot.rotation.T
        return {
            "documents": [plain(d) for d in reader.documents()],
            "vectors": [
                [owners[vid].ext_id, [round(float(x), 4) for x in row]]
                for vid, row in zip(vids.tolist(), rows, strict=True)
            ],
            "answers": answers(folder),
            "passages": len(vids),
            "dead": len(snapshot.dead),
            "segments": len(snapshot.segments),
            "recent": len(snapshot.rows.recent[0]),
            "rotated": snapshot.rotation_id is not None,
            "caches": sorted(row.kind for row in snapshot.caches),
            "tokens": sum(bool(getattr(row, "tok_name", None)) for row in snapshot.segments),
        }


def plain(d: Document) -> list[Any]:
    return [d.id, d.title, d.text, d.metadata, d.source]


OPTIONS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "dense": ("dense", {}, []),
    "dense exact": ("dense", {"exact": True}, []),
    "dense cut": ("dense", {"dims": 8}, []),
    "lexical": ("lexical", {}, []),
    "equal": ("dense", {}, ["kind=plain"]),
    "range": ("dense", {}, ["year>=2011"]),
    "list": ("dense", {}, ["kind in a,中文,0"]),
    "big": ("dense", {}, [f"kind={10**20 + 14}"]),
    "long": ("dense", {}, [f"kind={LONG}16"]),
}


def answers(folder: Path) -> dict[str, Any]:
    """Hits and scores of the fixed queries. In hybrid search releases differ: only who is found."""
    found: dict[str, Any] = {}
    encoder: Any = GoldenEncoder()
    with closing(Searcher(Reader(folder), lambda _: encoder)) as searcher:
        for name, (mode, more, filters) in OPTIONS.items():
            options = _OPTIONS(mode, conditions=parse_filter(filters), **more)
            found[name] = [
                [[hit.id, round(hit.score, 5)] for hit in searcher.search(query, MOST, options)]
                for query in QUERIES
            ]
        found["hybrid"] = [
            sorted(hit.id for hit in searcher.search(query, MOST, _OPTIONS("hybrid")))
            for query in QUERIES
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--into", type=Path, default=PLACE)
    asked = parser.parse_args()
    target = asked.into / f"{asked.name}.tar.gz"
    if target.exists():
        parser.error(f"{target} is there: a golden index is never made again")
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        sizes(patch)
        folder = Path(place) / asked.name
        make(folder)
        text = json.dumps(expected(folder), ensure_ascii=False, separators=(",", ":"))
        with tarfile.open(target, "x:gz") as archive:
            archive.add(folder, asked.name)
        target.with_name(f"{asked.name}.json.gz").write_bytes(gzip.compress(text.encode()))
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
