"""Readers and writers of corpora, queries, judgements and runs; errors carry ``file:line``.

Names are loaded on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.lazy import lazy_names

if TYPE_CHECKING:
    from semsearch.corpus.beir import BeirDataset
    from semsearch.corpus.beir_writer import write_beir
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
    "write_beir",
    "write_qrels",
    "write_run",
]

__getattr__ = lazy_names(
    __name__,
    {
        "BeirDataset": ".beir",
        "read_corpus": ".read",
        "read_qrels": ".qrels",
        "read_queries": ".queries",
        "read_run": ".runs",
        "write_beir": ".beir_writer",
        "write_qrels": ".qrels",
        "write_run": ".runs",
    },
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
