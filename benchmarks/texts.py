"""The texts to measure on: labelled sets where they are, else Python's own documentation."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from semsearch.corpus import BeirDataset, read_corpus
from semsearch.types import Document

_ROOT = Path(__file__).resolve().parent.parent
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def warn(message: str) -> None:
    """A line that cannot be missed."""
    print(f"\n!!! {message}\n", file=sys.stderr, flush=True)


def stdlib_folder(work: Path) -> Path:
    """The standard library's documentation as a labelled set, with the questions of data/."""
    from semsearch.corpus.stdlib import read_stdlib

    folder = work / "stdlib"
    if not (folder / "corpus.jsonl").is_file():
        shutil.copytree(_ROOT / "data" / "stdlib", folder, dirs_exist_ok=True)
        write_jsonl(folder / "corpus.jsonl", read_stdlib())
    return folder


def write_jsonl(path: Path, documents: Iterable[Document]) -> None:
    """Write documents as a corpus."""
    with open(path, "w", encoding="utf-8") as file:
        for d in documents:
            fields = {"_id": d.id, "title": d.title, "text": d.text, "metadata": dict(d.metadata)}
            file.write(json.dumps(fields, ensure_ascii=False) + "\n")


def sentences(corpus: Path, count: int, shortest: int, longest: int) -> list[str]:
    """The first ``count`` different sentences of a corpus with so many characters."""
    found: dict[str, None] = {}
    for sentence in _sentences(corpus):
        if shortest <= len(sentence) <= longest:
            found[sentence] = None
            if len(found) == count:
                break
    return list(found)


def _sentences(corpus: Path) -> Iterator[str]:
    for document in read_corpus(corpus):
        yield from (" ".join(part.split()) for part in _SENTENCE_END.split(document.text))


def describe(folder: Path) -> dict[str, Any]:
    """Name, size and checksum of a labelled set."""
    labelled = BeirDataset.open(folder)
    return {
        "name": folder.name,
        "documents": sum(1 for _ in read_corpus(labelled.require_corpus())),
        "queries": len(labelled.queries),
        "split": labelled.split,
        "corpus_sha256": labelled.corpus_sha256(),
    }


def checksum(texts: Iterable[str]) -> str:
    """SHA-256 of texts, one a line."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()
