"""kill -9 at any time and at any step: what was acknowledged is there, nothing is partial."""

from collections import Counter

import pytest

from semsearch.collection import beside, layout
from semsearch.collection.reader import Reader
from tests.faults import kills, swaps
from tests.faults.campaign import SEED, Outcome, push, quick_folder
from tests.faults.kill_steps import EVERYTHING, MIDDLE, Case, set_sizes
from tests.faults.kill_worker import Kill, Worker
from tests.faults.kills import calibrate, points_of

FILES = {"create", "write", "fsync", "rename", "sync-folder", "commit", "committed", "unlink"}
ALL = FILES | {"lexical-link", "sync-file", "link", "vacuum", "migrating"}
COMMITTED = {"commit", "committed"}
NO = ("lost acknowledgements", "partial generations", "disagreements", "orphans")


@pytest.fixture(scope="module")
def worker():
    with Worker("tests.faults.kill_steps") as started:
        yield started


@pytest.fixture
def disk(monkeypatch):
    set_sizes(monkeypatch.setattr)
    with quick_folder() as folder:
        yield folder


def test_kills_lose_nothing_acknowledged():
    outcome = push(kills.CAMPAIGN)
    assert outcome.failures == []
    assert [outcome.figures[name] for name in NO] == [0, 0, 0, 0]
    least = {
        "kills": 80,
        "generations acknowledged": 200,
        "unacknowledged commits": 1,
        "different moments": 30,
    }
    assert {name: least[name] for name in least if float(outcome.figures[name]) < least[name]} == {}


def test_an_undisturbed_run_reaches_every_step_of_every_protocol(worker, disk):
    case = Case(SEED, -1)
    ran = worker.run(kills.JOB, disk, SEED, -1, 0)
    assert (ran.status, kills.acknowledged_of(ran, 0)) == (0, len(EVERYTHING) - 1)
    points = points_of(case, ran)
    assert set(points) == set(EVERYTHING) >= set(MIDDLE)
    assert set().union(*points.values()) == ALL
    for name in ("put", "delete", "merge", "rotate", "vectors", "words", "tokens", "compact"):
        assert set(points[name]) >= COMMITTED, name
    for name in ("backup", "copy", "restore"):
        assert points[name]["rename"] >= 3
    assert points["garbage"]["unlink"] == 6
    assert points["restore"]["link"] >= 3
    with kills.opened(case, disk / "index", len(EVERYTHING) - 1) as (reader, second):
        snapshot = reader.snapshot()
        assert second
        assert snapshot.rotation is not None
        assert {row.kind for row in snapshot.caches} == {"faiss", "lexical"}
        assert all(row.tok_name for row in snapshot.segments)


@pytest.mark.parametrize(
    ("mutant", "figure"),
    [
        ("acknowledged_early", "lost acknowledgements"),
        ("in_two_commits", "partial generations"),
        ("wrong_vectors", "disagreements"),
    ],
)
def test_what_breaks_a_promise_is_caught(worker, disk, monkeypatch, mutant, figure):
    calibration = calibrate(worker, SEED, disk)
    monkeypatch.setattr(kills, "JOB", f"tests.faults.kill_mutants.{mutant}")
    found = set()
    for number in range(30):
        outcome = kills.run_case(
            worker, calibration, Case(SEED, number), disk / str(number), Counter()
        )
        found |= {name for name in (*NO, "runs that failed") if outcome.figures.get(name)}
        if figure in found:
            return
    pytest.fail(f"30 kills found only {found}")


def test_an_orphan_is_caught_and_so_is_a_backup_that_is_not_whole(worker, disk, monkeypatch):
    case = Case(SEED, -1)
    step = EVERYTHING.index("copy")
    ran = worker.run(kills.JOB, disk, SEED, -1, 0, kill=Kill("", 1, step + 1))
    acknowledged = kills.acknowledged_of(ran, 0)
    assert (ran.killed, acknowledged) == (True, step)
    kills.check_after_kill(case, disk, acknowledged, Outcome(1))
    backup = disk / f"backup-{EVERYTHING.index('backup')}"
    with Reader(backup) as reader:
        name = reader.snapshot().segments[0].name
    (backup / "seg" / "a-stray").write_bytes(b"left over")
    with pytest.raises(kills.Wrong, match="more or less"):
        kills.check_copies(case, disk, acknowledged)
    (backup / "seg" / "a-stray").unlink()
    (disk / f"copy-{step}").rename(disk / "elsewhere")
    with pytest.raises(kills.Wrong, match="lost acknowledgements: no copy"):
        kills.check_copies(case, disk, acknowledged)
    (backup / "seg" / name).unlink()
    with pytest.raises(Exception, match=name):
        kills.check_copies(case, disk, acknowledged)
    (disk / "index" / "lex" / "a-stray").write_bytes(b"left over")
    monkeypatch.setattr(beside, "_sweep_words", lambda *_: None)
    with pytest.raises(kills.Wrong, match=r"orphans: (lex/\w+\.\w+, )*lex/a-stray"):
        kills.write_again(case, disk, acknowledged, Outcome(1))


def test_a_case_is_the_same_each_time_and_its_states_follow_its_steps():
    assert layout.MERGE_COUNT != 3  # the sizes of the campaign are its own
    assert Case(3, 5).program == Case(3, 5).program != Case(3, 6).program
    case = Case(SEED, -1)
    assert case.state_after(0) == {d.id: d for d in case.documents(0)}
    restored = EVERYTHING.index("restore")
    assert case.state_after(restored) == case.state_after(EVERYTHING.index("backup"))
    assert case.state_after(restored) != case.state_after(restored - 1)
    last = len(EVERYTHING) - 1
    assert case.state_after(last) != case.state_after(last - 1)
    programs = [set(Case(SEED, number).program) for number in range(kills.CAMPAIGN.push)]
    assert set().union(*programs) == set(EVERYTHING)


def test_kills_of_a_swap_leave_one_whole_and_lose_none():
    outcome = push(swaps.CAMPAIGN)
    assert outcome.failures == []
    assert float(outcome.figures["kills"]) >= 20
    assert {"of swap", "of end", "of fill", "of undo"} <= set(outcome.figures)
    assert 0 < float(outcome.figures["the new one served"]) < outcome.cases


@pytest.fixture(scope="module")
def states():
    with (
        pytest.MonkeyPatch.context() as patch,
        quick_folder() as folder,
        Worker("tests.faults.swaps") as worker,
    ):
        swaps.set_sizes(patch.setattr)
        made = swaps.States(folder, worker)
        made.make()
        yield made


def test_a_swap_reaches_every_kind_of_step_and_every_kind_of_file(states):
    points = states.reached["swap"].points
    assert set(points) >= {
        "link", "rename", "sync-file", "sync-folder", "swap", "committed", "unlink",
    }  # fmt: skip
    assert points.count("swap") >= 5  # the catalog is copied in several steps
    assert len(states.reached["end"].points) > 5
    assert list((states.folder / "committed").glob("before-*"))
    with Reader(states.folder / "swapped") as reader:
        snapshot = reader.snapshot()
        assert len(snapshot.segments) >= 2
        assert all(row.tok_name for row in snapshot.segments)
        assert {row.kind for row in snapshot.caches} == {"faiss", "lexical"}
        assert len(snapshot.rows.recent[0])
    assert states.old != states.new


def test_every_step_has_its_turn_at_the_full_size(states):
    planned = [swaps.planned(states, SEED, case) for case in range(swaps.CAMPAIGN.full)]
    places = [(name, place) for name, place, _ in planned if place is not None]
    assert sorted(places) == sorted(states.places())
    assert len(places) < len(planned)


def test_what_a_swap_must_not_leave_is_caught(states, monkeypatch):
    outcome = Outcome(1)
    monkeypatch.setattr(swaps, "settle", lambda _: None)  # so nothing is finished
    place = states.decides(last=True)
    monkeypatch.setattr(swaps, "planned", lambda *_: ("swap", place, Kill("", place)))
    swaps.run_case(states, SEED, 0, outcome)
    assert "not beside" in outcome.failures[0] or "No such file" in outcome.failures[0]
    monkeypatch.setattr(swaps, "planned", lambda *_: ("swap", 1, Kill("", place)))
    swaps.run_case(states, SEED, 1, outcome)
    assert "case 1: swap killed at point" in outcome.failures[1]
    assert "before the step that decides" in outcome.failures[1]
