"""The door to tantivy: one schema and one analyser, for what is stored and what is in memory.

What is indexed is split at white space, nothing else: everything about words is in ``tokens``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from semsearch import resources
from semsearch.errors import MissingExtra

if TYPE_CHECKING:
    from tantivy import Index, Schema, TextAnalyzer

_ROOM = 32 << 20
"""Bytes that tantivy's threads may need beside what a writer is given."""

VID = "vid"
TEXT = "text"
_ANALYSER = "words"


def load() -> ModuleType:
    """The ``tantivy`` module. Raises MissingExtra where it is not installed."""
    try:
        import tantivy
    except ImportError as exc:
        raise MissingExtra("tantivy", None, "lexical search") from exc
    return tantivy


def version() -> str:
    """Release series and index format, ``tantivy 0.27, format 7``; files of another are rebuilt."""
    numbers = re.search(r"v?(\d+\.\d+)[\d.]*, index_format v(\d+)", load().__version__)
    if numbers is None:
        return f"tantivy {load().__version__}"
    return f"tantivy {numbers[1]}, format {numbers[2]}"


def analyser(stemmers: Sequence[str] = ()) -> TextAnalyzer:
    """Splits at white space, then applies Snowball stemmers by name, ``("portuguese",)``."""
    load()
    from tantivy import Filter, TextAnalyzerBuilder, Tokenizer

    builder = TextAnalyzerBuilder(Tokenizer.whitespace())
    for name in stemmers:
        builder = builder.filter(Filter.stemmer(name))
    return builder.build()


def schema() -> Schema:
    """A passage: its vid (searchable, so that a search can be limited to some) and its words."""
    load()
    from tantivy import SchemaBuilder

    builder = SchemaBuilder()
    builder.add_unsigned_field(VID, indexed=True, fast=True)
    builder.add_text_field(TEXT, tokenizer_name=_ANALYSER, index_option="freq")
    return builder.build()


def require_room(heap_bytes: int = 0) -> None:
    """Raise OutOfMemory where an index could not be opened, or written with such a heap."""
    resources.require_room(_ROOM + heap_bytes, "the index of words")


def create(path: str | None = None) -> Index:
    """A new empty index in a folder, or in memory. Raises OutOfMemory."""
    load()
    require_room()
    from tantivy import Index

    index = Index(schema(), path=path, reuse=False)
    index.register_tokenizer(_ANALYSER, analyser())
    return index


def open_folder(path: str) -> Index:
    """The index of a folder that holds ``meta.json``. Raises OutOfMemory."""
    load()
    require_room()
    from tantivy import Index

    index = Index.open(path)
    index.register_tokenizer(_ANALYSER, analyser())
    index.config_reader("manual", 0)
    return index
