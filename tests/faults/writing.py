"""A writer that never stops: puts, deletes, merges, compacts, rebuilds, swaps models.

What it does is a pure function of the seed and the number of the step. It keeps a log of which
generation holds what, so that an answer which names its generation can be compared with the truth.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pytest

from semsearch.collection import lexical_cache, maintain, vector_build
from semsearch.collection.language import choose_language
from semsearch.collection.layout import Layout
from semsearch.collection.swap import swap_beside
from semsearch.collection.writer import Writer, open_for_writing
from semsearch.encoders import Encoder
from semsearch.index import build, tune
from semsearch.indexing import Source, run_indexing
from semsearch.indexing.reindex import (
    bring_up_to_date,
    open_new_beside,
    open_old_beside,
    what_is_behind,
)
from semsearch.types import Document
from tests.fakes import WORDS, FakeEncoder
from tests.store_model import small_sizes

MODELS = [cast(Encoder, FakeEncoder(24, "first")), cast(Encoder, FakeEncoder(32, "second"))]
NUMBERS = 120
STEPS = (
    "put", "delete", "put", "merge", "put", "vectors", "put", "compact", "put", "swap",
    "put", "words", "put", "delete", "put", "put", "compact", "put", "put", "merge",
)  # fmt: skip
NAMES = {
    "put": "puts", "delete": "deletes", "merge": "merges", "compact": "compactions",
    "vectors": "FAISS rebuilt", "words": "words rebuilt", "swap": "models swapped",
}  # fmt: skip
State = dict[str, Document]


@contextmanager
def sizes() -> Iterator[None]:
    """Everything happens after a handful of rows."""
    with pytest.MonkeyPatch.context() as patch:
        small_sizes(patch.setattr)
        patch.setattr(tune, "CANDIDATES", (12, 24, 48))
        for module in (vector_build, build):
            patch.setattr(module, "EXACT_ROWS", 20)
        yield


def step_of(number: int) -> str:
    """What a step does."""
    return STEPS[number % len(STEPS)]


def put_of(seed: int, number: int) -> list[Document]:
    """The documents that a step writes, of which some are there already."""
    random = np.random.default_rng([seed, number, 1])
    count = NUMBERS if number == 0 else int(random.integers(2, 12))
    return [
        Document(
            f"d{n}",
            " ".join(random.choice(WORDS, 8)) + f" s{number}",
            f"title {n}",
            {"step": number, "n": n, "even": n % 2 == 0},
            "corpus",
        )
        for n in sorted(random.choice(NUMBERS, count, replace=False).tolist())
    ]


def gone_of(seed: int, number: int) -> list[str]:
    """The documents that a step deletes, if they are there."""
    random = np.random.default_rng([seed, number, 1])
    return [f"d{n}" for n in random.choice(NUMBERS, 6, replace=False).tolist()]


def after(seed: int, number: int, state: Mapping[str, Document]) -> State:
    """What is there after a step, given what was there before."""
    state = dict(state)
    name = step_of(number)
    if name == "put":
        state.update({document.id: document for document in put_of(seed, number)})
    elif name == "delete":
        for id in gone_of(seed, number):
            state.pop(id, None)
    return state


class Entry(NamedTuple):
    """From this generation on the index holds what the step leaves, by this model."""

    gen: int
    step: int
    model: int


class Truth:
    """What each generation holds, by the writer's log."""

    def __init__(self, seed: int, log: list[Entry]) -> None:
        self._log = log
        self._gens = [entry.gen for entry in log]
        self._states: list[State] = []
        state: State = {}
        for number in range(log[-1].step + 1):
            state = after(seed, number, state)
            self._states.append(state)

    def at(self, gen: int) -> tuple[State, FakeEncoder]:
        """The documents of a generation, and the model that it is searched by."""
        entry = self._log[bisect_right(self._gens, gen) - 1]
        return self._states[entry.step], cast(FakeEncoder, MODELS[entry.model])

    @classmethod
    def read(cls, path: Path, seed: int) -> Truth:
        """From the file that ``Work.keep_log`` wrote."""
        return cls(seed, [Entry(*row) for row in json.loads(path.read_text())])


class Work:
    """Takes step after step on one index."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self.step = 0
        self.model = 0
        self.log: list[Entry] = []
        self.done: dict[str, int] = {}
        self._swapped = False

    def take(self, steps: int) -> None:
        """So many steps, by one opening of the index: opening it is a part of what is tested."""
        with open_for_writing(Layout(self.folder)) as writer:
            for _ in range(steps):
                name = step_of(self.step)
                getattr(self, f"_{name}")(writer)
                self.done[name] = self.done.get(name, 0) + 1
                self.step += 1

    def keep_log(self, path: Path) -> None:
        """For whoever compares."""
        path.write_text(json.dumps(self.log))

    def _note(self, gen: int) -> None:
        self.log.append(Entry(gen, self.step, self.model))

    def _put(self, writer: Writer) -> None:
        if self.step == 0:
            choose_language(writer, "none")
        gen = writer.snapshot.generation.gen
        source = Source("corpus", put_of(self.seed, self.step), prunable=False)
        run_indexing(writer, MODELS[self.model], [source])
        self._note(gen + 1)  # all of it is one window, committed first
        if self.step == 0:
            vector_build.choose_kind(writer, "SQ8")

    def _delete(self, writer: Writer) -> None:
        gen = writer.snapshot.generation.gen
        if writer.delete(gone_of(self.seed, self.step)):
            self._note(gen + 1)

    def _merge(self, writer: Writer) -> None:
        maintain.merge_segments(writer)

    def _compact(self, writer: Writer) -> None:
        maintain.compact(writer)
        vector_build.build_vector_cache(writer)
        lexical_cache.build_lexical_cache(writer)

    def _vectors(self, writer: Writer) -> None:
        vector_build.build_vector_cache(writer, force=True)

    def _words(self, writer: Writer) -> None:
        lexical_cache.build_lexical_cache(writer, force=True)

    def _swap(self, writer: Writer) -> None:
        """To the other model and back: by encoding anew, or by what served before."""
        other = MODELS[1 - self.model]
        door = open_old_beside(writer) if self._swapped else open_new_beside(writer, other)
        with door as beside:
            bring_up_to_date(writer, beside, what_is_behind(writer, beside), lambda: other)
        swap_beside(writer)
        self._swapped = True
        self.model = 1 - self.model
        self._note(writer.snapshot.generation.gen)


def figures_of(done: Mapping[str, int]) -> dict[str, Any]:
    """How often each step was taken."""
    return {shown: done.get(name, 0) for name, shown in NAMES.items()}
