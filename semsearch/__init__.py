"""From a corpus file to a search engine you can trust, because it tells you how good it is.

    import semsearch
    index = semsearch.open("stdlib.idx", model="all-MiniLM-L6-v2")
    index.add(semsearch.read_corpus("corpus.jsonl"))
    for hit in index.search("parse a JSON string", k=5): print(hit.score, hit.id)
    print(semsearch.evaluate(index, "my-dataset/"))

A public name is loaded when it is first used, so ``import semsearch`` itself is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.lazy import lazy_names

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
        OutOfMemory,
        SemsearchError,
        StorageError,
        UsageError,
    )
    from semsearch.evaluation import compare, evaluate, evaluate_ranking
    from semsearch.evaluation.tuning import tune
    from semsearch.search import open
    from semsearch.training import judge, read_recipe, train
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
    "OutOfMemory",
    "Query",
    "SemsearchError",
    "StorageError",
    "UsageError",
    "compare",
    "evaluate",
    "evaluate_ranking",
    "judge",
    "open",
    "read_corpus",
    "read_recipe",
    "train",
    "tune",
]

# Public names by the module that defines them. The imports above say the same to a type checker.
_NAMES_BY_MODULE = {
    ".corpus": "read_corpus",
    ".errors": "Corrupt InputError Locked Mismatch MissingExtra ModelError NotFound "
    "OutOfMemory SemsearchError StorageError UsageError",
    ".evaluation": "compare evaluate evaluate_ranking",
    ".evaluation.tuning": "tune",
    ".search": "open",
    ".training": "judge read_recipe train",
    ".types": "Candidates Document Hit Query",
}
__getattr__ = lazy_names(
    __name__,
    {name: module for module, names in _NAMES_BY_MODULE.items() for name in names.split()},
)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
