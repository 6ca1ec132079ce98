"""The index of a labelled set: made once by a model, kept in the user's cache, used again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from semsearch import fs
from semsearch.corpus import BeirDataset, read_corpus
from semsearch.search.facade import Index


def open_dataset_index(
    dataset: BeirDataset,
    model: str | Path,
    *,
    fresh: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Index:
    """The index of a dataset's corpus by a model, indexed now unless an earlier run did so.

    ``fresh`` throws an earlier one away. ``progress`` is called with the number of documents done
    since the last call. Raises NotFound (no corpus, no such model), ModelError, InputError (a bad
    document), StorageError.
    """
    index = find_dataset_index(dataset, model, fresh=fresh)
    if not is_complete(index):
        complete(index, dataset, progress)
    return index


def find_dataset_index(dataset: BeirDataset, model: str | Path, *, fresh: bool = False) -> Index:
    """The index at its place in the cache, which may hold nothing or a part of it yet.

    ``fresh`` empties that place. Raises NotFound (no corpus, no such model), ModelError.
    """
    path = dataset_folder(dataset, model)
    if fresh and path.exists():
        shutil.rmtree(path)
    return Index(path, model)


def dataset_folder(dataset: BeirDataset, model: str | Path) -> Path:
    """Where that index lies, named by the bytes of the corpus and the model's fingerprint."""
    from semsearch.encoders import fingerprint_of
    from semsearch.indexing.long_text import DEFAULT

    made_from = f"{dataset.corpus_sha256()[:16]}-{fingerprint_of(model, local_only=False)[:16]}"
    return fs.cache_folder() / "datasets" / f"{made_from}-{DEFAULT}"


def is_complete(index: Index) -> bool:
    """Whether a run has indexed the corpus to its end."""
    return index.exists and bool(index.reader.sources())


def complete(
    index: Index, dataset: BeirDataset, progress: Callable[[int], None] | None = None
) -> None:
    """Index the dataset's corpus, or what is left of it; ``progress`` and errors as above."""
    from semsearch.collection.layout import Layout
    from semsearch.collection.writer import open_for_writing
    from semsearch.indexing import Source, run_indexing

    corpus = dataset.require_corpus()
    with open_for_writing(Layout(index.folder)) as writer:
        source = Source(str(corpus.resolve()), read_corpus(corpus))
        run_indexing(writer, index.encoder_for(writer.snapshot), [source], progress=progress)
    index.close()  # what it had open is older than that
