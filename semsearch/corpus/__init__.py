"""Readers and writers of corpora, queries, judgements and runs; errors carry ``file:line``.

Names are loaded on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from semsearch.corpus.beir import BeirDataset
    from semsearch.corpus.qrels import read_qrels, write_qrels
    from semsearch.corpus.queries import read_queries
    from semsearch.corpus.read import read_corpus
    from semsearch.corpus.runs import read_run, write_run

__all__ = [
    "BeirDataset",
    "read_corpus",
    "read_qrels",
    "read_queries",
    "read_run",
    "write_qrels",
    "write_run",
]

_HOMES = {
    "BeirDataset": "beir",
    "read_corpus": "read",
    "read_qrels": "qrels",
    "read_queries": "queries",
    "read_run": "runs",
    "write_qrels": "qrels",
    "write_run": "runs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
