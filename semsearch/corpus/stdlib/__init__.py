"""The demo's corpus: the documentation inside the running interpreter's standard library."""

from semsearch.corpus.stdlib.documents import read_stdlib
from semsearch.corpus.stdlib.labels import labelled_set

__all__ = ["labelled_set", "read_stdlib"]
