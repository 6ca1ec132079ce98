"""Sixteen readers beside a writer, at the size for every day; a wrong answer would show."""

from dataclasses import replace
from itertools import islice

import pytest

from semsearch.collection import backup, maintain, snapshot
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.snapshot import Snapshot
from semsearch.collection.writer import open_for_writing
from semsearch.errors import Corrupt, StorageError
from semsearch.search.attempts import attempts
from semsearch.store.catalog import NO_GENERATION
from semsearch.types import Document
from tests.faults import readers, writing
from tests.faults.campaign import push
from tests.faults.readers import CAMPAIGN, Answer, wrong
from tests.store_model import DIM, encoder_row, put, small_sizes


def test_every_answer_is_that_of_the_generation_it_names():
    outcome = push(CAMPAIGN)
    assert outcome.failures == []
    assert outcome.figures["wrong"] == outcome.figures["exceptions"] == 0
    assert outcome.figures["readers"] == 16
    for name in ("answers", "listings", "puts", "generations seen"):
        assert float(outcome.figures[name]) > 5, name


# ---- the comparison itself


@pytest.fixture(scope="module")
def truth():
    """Generation 2 holds what step 0 leaves, generation 5 what step 1 does, by the other model."""
    return writing.Truth(3, [writing.Entry(2, 0, 0), writing.Entry(5, 1, 1)])


def answer_of(truth, gen, kind="dense", query="bar dor"):
    """What an index that is right answers."""
    state, model = truth.at(gen)
    scored = sorted(
        ((float(readers.vector_of(model, d) @ model.vector(query)), d) for d in state.values()),
        key=lambda pair: -pair[0],
    )
    found = [(d.id, score, d.text, dict(d.metadata)) for score, d in scored[: readers.K]]
    return Answer(kind, gen, query, found, 0.0, 0.0)


@pytest.mark.parametrize("gen", [2, 4, 5, 9])
def test_a_right_answer_is_right(truth, gen):
    assert wrong(answer_of(truth, gen), truth) == ""


def test_an_answer_of_another_generation_is_wrong(truth):
    assert wrong(answer_of(truth, 2)._replace(gen=5), truth)
    assert wrong(answer_of(truth, 5)._replace(gen=2), truth)


@pytest.mark.parametrize("kind", ["dense", "lexical", "hybrid", "listing"])
def test_a_document_that_is_not_there_or_is_another_is_found(truth, kind):
    right = answer_of(truth, 2, kind)
    id, score, text, metadata = right.found[0]
    for row, said in [
        (("d999", score, text, metadata), "is not there"),
        ((id, score, "another text", metadata), "is not as it is"),
        ((id, score, text, {}), "is not as it is"),
        (right.found[1], "twice"),
    ]:
        assert said in wrong(right._replace(found=[row, *right.found[1:]]), truth)


def test_a_hit_that_is_missing_or_of_less_worth_is_found(truth):
    right = answer_of(truth, 2)
    assert "4 hits, not 5" in wrong(right._replace(found=right.found[:4]), truth)
    state, model = truth.at(2)
    worst = min(
        state.values(), key=lambda d: readers.vector_of(model, d) @ model.vector(right.query)
    )
    score = float(readers.vector_of(model, worst) @ model.vector(right.query))
    row = (worst.id, score, worst.text, dict(worst.metadata))
    assert "best scores" in wrong(right._replace(found=[*right.found[:4], row]), truth)
    assert "hits, not" in wrong(right._replace(kind="lexical", found=[]), truth)


def test_states_follow_from_the_steps():
    states: list[writing.State] = []
    state: writing.State = {}
    for number in range(40):
        state = writing.after(7, number, state)
        states.append(state)
    assert len(states[0]) == writing.NUMBERS
    assert all(isinstance(d, Document) for d in state.values())
    assert {writing.step_of(n) for n in range(40)} == set(writing.NAMES)
    for number, (before, after) in enumerate(zip(states, states[1:], strict=False), start=1):
        changed = {id for id in before | after if before.get(id) != after.get(id)}
        assert bool(changed) == (writing.step_of(number) in ("put", "delete"))


# ---- beginning again


class View:
    """As much of a view as counts its generation."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot


def view_of(number, folder):
    made = object.__new__(Snapshot)
    object.__setattr__(made, "layout", Layout(folder))
    object.__setattr__(made, "generation", replace(NO_GENERATION, gen=number))
    return View(made)


def test_a_generation_that_always_lacks_rows_is_damaged(tmp_path):
    tried = attempts(lambda: view_of(7, tmp_path))
    assert len(list(islice(tried, 5))) == 5
    with pytest.raises(Corrupt, match=r"catalog\.db: passages without a row"):
        next(tried)


def test_one_that_another_follows_every_time_is_not(tmp_path):
    numbers = iter(range(10**6))
    tried = attempts(lambda: view_of(next(numbers), tmp_path))
    assert len(list(islice(tried, 200))) == 200
    with pytest.raises(StorageError, match="written to faster"):
        next(tried)


# ---- files that go while they are looked for


@pytest.fixture
def busy(tmp_path, monkeypatch):
    """An index, and a function that lets a commit merge away what the next opening looks for."""
    small_sizes(monkeypatch.setattr)
    with open_for_writing(Layout(tmp_path / "index")) as writer:
        writer.adopt_encoder(encoder_row(), DIM)
        put(writer, [Document(f"d{n}", f"text {n}") for n in range(9)])

        def merge_away():
            put(writer, [Document("d0", f"text {writer.snapshot.generation.gen}")])
            maintain.rewrite(writer, refit=False)

        yield tmp_path / "index", merge_away


def test_a_reader_that_is_slower_than_twenty_commits_is_served(busy, monkeypatch):
    folder, merge_away = busy
    overtaken: list[object] = []

    def slow(layout, row, real=snapshot._open_segment):
        if len(overtaken) < 20 and layout.folder == folder and not inside:
            overtaken.append(row.name)
            inside.append(True)
            merge_away()
            inside.clear()
        return real(layout, row)

    inside: list[bool] = []
    snapshot._OPEN.clear()
    with Reader(folder) as reader:
        monkeypatch.setattr(snapshot, "_open_segment", slow)
        found = reader.snapshot()
        assert len(set(overtaken)) == 20
        assert {d.id for d in reader.documents()} == {f"d{n}" for n in range(9)}
        assert len(found.rows) - len(found.dead) == 9


def test_a_backup_that_is_overtaken_by_ten_commits_is_made(busy, monkeypatch):
    folder, merge_away = busy
    overtaken: list[object] = []

    def slow(source, place, real=backup._named):
        found = real(source, place)
        if len(overtaken) < 10:
            overtaken.append(found)
            merge_away()
        return found

    monkeypatch.setattr(backup, "_named", slow)
    made = backup.back_up(folder, folder.parent / "backup")
    assert len(overtaken) == 10
    with Reader(folder) as reader:
        assert made.generation == reader.snapshot().generation.gen
    assert made.documents == 9
