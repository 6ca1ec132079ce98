"""kill -9 while another model takes an index's place: one of the two serves, whole; none is lost.

Four things are killed: the swap, its end when the next writer finishes it, the making of the new
index, and putting the old one back after documents changed. A case is one step of one of them; the
full size has more cases than there are steps, so every step has its turn; what is left over is
killed at a random time, and so is one case in ten.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from semsearch import fs
from semsearch.collection import vector_build
from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.swap import swap_beside
from semsearch.collection.writer import open_for_writing
from semsearch.encoders import Encoder
from semsearch.index import build, library
from semsearch.indexing import source
from semsearch.indexing.reindex import (
    bring_up_to_date,
    open_new_beside,
    open_old_beside,
    what_is_behind,
)
from semsearch.lexical import engine
from semsearch.store import database
from semsearch.types import Document
from tests.fakes import FakeEncoder, contents, index_into, make_documents
from tests.faults.campaign import Campaign, Outcome
from tests.faults.kill_worker import Kill, Ran, Worker
from tests.store_model import small_sizes
from tests.test_reindex import assert_sound, passages

JOB = "tests.faults.swaps.act"
COUNT = 68
OLD = FakeEncoder(32, "old")
NEW = FakeEncoder(48, "new")


def set_sizes(patch=setattr) -> None:
    """Many small files of every kind, and a catalog that is copied in many steps."""
    small_sizes(patch)
    for module in (vector_build, build):
        patch(module, "EXACT_ROWS", 20)
    patch(source, "WINDOW_DOCUMENTS", 16)
    patch(database, "_COPY_PAGES", 8)
    patch(database, "_COPY_KIB", 16)


def warm_up() -> None:
    """Load libraries once, not in every fork."""
    import sqlite_utils.migrations  # noqa: F401

    import semsearch.lexical.writer  # noqa: F401

    library.load()
    engine.load()


def act(folder: str, action: str) -> None:
    """The job: what the command does."""
    set_sizes()
    perform(Path(folder), action)
    fs.point("end")


def perform(folder: Path, action: str) -> None:
    """``reindex``, ``undo``, or only ``open`` for writing."""
    with open_for_writing(Layout(folder)) as live:
        if action == "open":
            return
        new = action == "reindex"
        with open_new_beside(live, cast(Encoder, NEW)) if new else open_old_beside(live) as beside:
            model = cast(Encoder, NEW if new else OLD)
            bring_up_to_date(live, beside, what_is_behind(live, beside), lambda: model)
        swap_beside(live)


def require(holds: bool, what: str) -> None:
    """Raise AssertionError that says what does not hold."""
    if not holds:
        raise AssertionError(what)


def serving(folder: Path) -> list[tuple[Any, ...]]:
    """The passages that a reader finds after a kill; whatever serves is sound."""
    with Reader(folder) as reader:
        damage = [str(finding) for finding in check_index(reader) if not finding.is_note]
    require(not damage, "; ".join(damage))
    return passages(folder)


def settle(folder: Path) -> None:
    """Open for writing: it finishes a swap, or clears it away."""
    with open_for_writing(Layout(folder)):
        pass


@dataclass
class States:
    """Indexes to begin with, and what they hold; ``reached``: the steps that each action passes."""

    folder: Path
    worker: Worker
    old: list[tuple[Any, ...]] = field(default_factory=list)
    new: list[tuple[Any, ...]] = field(default_factory=list)
    changed: dict[str, Document] = field(default_factory=dict)
    reached: dict[str, Ran] = field(default_factory=dict)

    def make(self) -> None:
        """An index; with another beside it; swapped; swapped and changed; with the swap unended."""
        index_into(self.folder / "plain", OLD, make_documents(COUNT))
        shutil.copytree(self.folder / "plain", self.folder / "filled")
        with open_for_writing(Layout(self.folder / "filled")) as live:
            model = cast(Encoder, NEW)
            with open_new_beside(live, model) as beside:
                bring_up_to_date(live, beside, what_is_behind(live, beside), lambda: model)
        shutil.copytree(self.folder / "filled", self.folder / "swapped")
        perform(self.folder / "swapped", "reindex")
        self.old, self.new = passages(self.folder / "plain"), passages(self.folder / "swapped")
        shutil.copytree(self.folder / "swapped", self.folder / "changed")
        change(self.folder / "changed")
        self.changed = contents(self.folder / "changed")
        self.reached["swap"] = self.whole("filled", "reindex")
        committed = self.begin("committed", "filled")
        ran = self.worker.run(JOB, committed, "reindex", kill=Kill("", self.decides(last=True)))
        require(ran.killed and passages(committed) == self.new, "the swap did not commit")
        self.reached["end"] = self.whole("committed", "open")
        self.reached["fill"] = self.whole("plain", "reindex")
        self.reached["undo"] = self.whole("changed", "undo")

    def decides(self, *, last: bool) -> int:
        """The step of a swap from which on the new index serves: not before, or at the latest."""
        points = self.reached["swap"].points
        name = "committed" if last else "swap"
        return len(points) - points[::-1].index(name)

    def begin(self, name: str, state: str) -> Path:
        """A copy of one of the states, to be acted on."""
        return Path(shutil.copytree(self.folder / state, self.folder / name))

    def whole(self, state: str, action: str) -> Ran:
        """An action that nobody interrupts, twice: the first run of a process is a slow one."""
        for _ in range(2):
            folder = self.begin(f"whole-{action}", state)
            ran = self.worker.run(JOB, folder, action)
            require(ran.status == 0, f"{action} failed")
            shutil.rmtree(folder)
        return ran

    def places(self) -> list[tuple[str, int]]:
        """Every step of every action."""
        return [
            (name, place)
            for name, ran in self.reached.items()
            for place in range(1, len(ran.points) + 1)
        ]


def change(folder: Path) -> None:
    """Documents change, come and go after a swap."""
    documents = make_documents(COUNT)
    added = [Document(documents[4].id, "new words"), Document("x1", "an extra one")]
    index_into(folder, NEW, added, "more", prunable=False)
    with open_for_writing(Layout(folder)) as writer:
        writer.delete([d.id for d in documents[10:20]])


def check_swap(states: States, folder: Path, place: int | None) -> None:
    """One whole index serves, which one is decided at one step; the other one is beside it."""
    found = serving(folder)
    require(found in (states.old, states.new), "neither of the two serves")
    is_new = found == states.new
    if place is not None:
        if place < states.decides(last=False):
            require(not is_new, "the new index serves before the step that decides")
        if place >= states.decides(last=True):
            require(is_new, "the old index serves after the step that decides")
    settle(folder)
    require(passages(folder) == found, "finishing changed what serves")
    other = states.old if is_new else states.new
    require(passages(folder / "beside") == other, "the other one is not beside")
    assert_sound(folder)
    again(states, folder, "undo" if is_new else "reindex", other)


def check_end(states: States, folder: Path, _: int | None) -> None:
    """A swap that is being finished is not undone by a kill."""
    require(serving(folder) == states.new, "the new index does not serve")
    settle(folder)
    require(passages(folder) == states.new, "finishing changed what serves")
    require(passages(folder / "beside") == states.old, "the old one is not beside")
    assert_sound(folder)


def check_fill(states: States, folder: Path, _: int | None) -> None:
    """A new index that is being made costs only what was under way."""
    found = serving(folder)
    require(found in (states.old, states.new), "neither of the two serves")
    if found == states.old:
        again(states, folder, "reindex", states.new)
    settle(folder)
    require(passages(folder) == states.new, "the new index does not serve")
    require(passages(folder / "beside") == states.old, "the old one is not beside")
    assert_sound(folder)


def check_undo(states: States, folder: Path, place: int | None) -> None:
    """An index that is put back has everything that came since."""
    serving(folder)
    require(contents(folder) == states.changed, "documents are lost")
    with open_for_writing(Layout(folder)) as writer:
        encoder = writer.snapshot.encoder
    require(encoder is not None, "no model")
    name = encoder.name if encoder is not None else ""
    if place == 1:
        require(name == "new", "it was put back before anything happened")
    if place is not None and place >= len(states.reached["undo"].points):
        require(name == "old", "it was not put back in the end")
    if name == "new":
        ran = states.worker.run(JOB, folder, "undo")
        require(ran.status == 0, "putting back failed the second time")
    require(contents(folder) == states.changed, "documents are lost")
    require(contents(folder / "beside") == states.changed, "documents beside are lost")
    assert_sound(folder)


def again(states: States, folder: Path, action: str, wanted: list[tuple[Any, ...]]) -> None:
    """The action can be done (again) after a kill."""
    ran = states.worker.run(JOB, folder, action)
    require((ran.status, passages(folder)) == (0, wanted), f"{action} after a kill failed")
    assert_sound(folder)


Check = Callable[[States, Path, int | None], None]
ACTIONS: dict[str, tuple[str, str, Check]] = {
    "swap": ("filled", "reindex", check_swap),
    "end": ("committed", "open", check_end),
    "fill": ("plain", "reindex", check_fill),
    "undo": ("changed", "undo", check_undo),
}


def planned(states: States, seed: int, case: int) -> tuple[str, int | None, Kill]:
    """What is killed in a case, at which of its steps, None for a random time."""
    random = np.random.default_rng([seed, case])
    places = in_order(states.places(), seed)
    number = case - case // 10
    if case % 10 == 9 or number >= len(places):
        name = list(ACTIONS)[int(random.integers(len(ACTIONS)))]
        return name, None, Kill(seconds=float(random.random()) * states.reached[name].seconds)
    name, place = places[number]
    return name, place, Kill("", place)


def in_order(places: list[tuple[str, int]], seed: int) -> list[tuple[str, int]]:
    """All of them, shuffled; those of the swap itself and of its end by turns with the others."""
    order = np.random.default_rng(seed).permutation(len(places)).tolist()
    inner = [places[at] for at in order if places[at][0] in ("swap", "end")]
    outer = [places[at] for at in order if places[at][0] not in ("swap", "end")]
    pairs = zip_longest(inner, outer)
    return [place for pair in pairs for place in pair if place is not None]


def run_case(states: States, seed: int, case: int, outcome: Outcome) -> None:
    """Kill one action once, and see what is left."""
    name, place, kill = planned(states, seed, case)
    state, action, check = ACTIONS[name]
    folder = states.begin(f"case-{case}", state)
    try:
        ran = states.worker.run(JOB, folder, action, kill=kill)
        require(ran.killed or place is None, "it was not killed")
        outcome.count("kills", ran.killed)
        outcome.count(f"of {name}", ran.killed)
        check(states, folder, place)
        outcome.count("the new one served", passages(folder) == states.new)
    except Exception as exc:
        outcome.fail(case, f"{name} {kill}", exc)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(seed: int, cases: Sequence[int], folder: Path) -> Outcome:
    """The campaign."""
    outcome = Outcome(len(cases))
    with pytest.MonkeyPatch.context() as patch, Worker("tests.faults.swaps") as worker:
        set_sizes(patch.setattr)
        states = States(folder, worker)
        states.make()
        outcome.figures["steps in all"] = len(states.places())
        for case in cases:
            run_case(states, seed, case, outcome)
    return outcome


CAMPAIGN = Campaign(
    name="swaps",
    must="the old index or the new one serves, whole; no document lost",
    push=25,
    full=420,
    run=run,
)
