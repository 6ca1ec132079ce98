"""The demo's corpus: the documentation inside the running interpreter's standard library."""

from semsearch.corpus.stdlib.documents import read_stdlib

__all__ = ["read_stdlib"]
