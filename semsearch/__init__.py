"""From a corpus file to a search engine you can trust, because it tells you how good it is.

    import semsearch
    index = semsearch.open("stdlib.idx", model="all-MiniLM-L6-v2")
    index.add(semsearch.read_corpus("corpus.jsonl"))
    for hit in index.search("parse a JSON string", k=5): print(hit.score, hit.id)
    print(semsearch.evaluate(index, "my-dataset/"))

A public name is loaded when it is first used, so ``import semsearch`` itself is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semsearch.corpus import read_corpus
    from semsearch.errors import (
        Corrupt,
        InputError,
        Locked,
        Mismatch,
        MissingExtra,
        ModelError,
        NotFound,
        SemsearchError,
        StorageError,
        UsageError,
    )
    from semsearch.evaluation import evaluate
    from semsearch.search import open
    from semsearch.types import Candidates, Document, Hit, Query

__version__ = "0.1.0"

__all__ = [
    "Candidates",
    "Corrupt",
    "Document",
    "Hit",
    "InputError",
    "Locked",
    "Mismatch",
    "MissingExtra",
    "ModelError",
    "NotFound",
    "Query",
    "SemsearchError",
    "StorageError",
    "UsageError",
    "evaluate",
    "open",
    "read_corpus",
]

# Public names by the module that defines them. The imports above say the same to a type checker.
_NAMES_BY_MODULE = {
    "semsearch.corpus": "read_corpus",
    "semsearch.errors": "Corrupt InputError Locked Mismatch MissingExtra ModelError NotFound "
    "SemsearchError StorageError UsageError",
    "semsearch.evaluation": "evaluate",
    "semsearch.search": "open",
    "semsearch.types": "Candidates Document Hit Query",
}
_HOME = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Load a public name on its first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'semsearch' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
