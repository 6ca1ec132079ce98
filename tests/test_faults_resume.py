"""An indexing run that is killed, or has too little memory, goes on where it was."""

from dataclasses import asdict, replace

import pytest
from click.testing import CliRunner

from semsearch import resources, threads
from semsearch.cli.main import Commands, cli
from semsearch.collection.reader import Reader
from semsearch.errors import OutOfMemory
from semsearch.indexing.ahead import one_ahead
from semsearch.lexical import engine
from tests.faults import low_memory, resume
from tests.faults.campaign import SEED, Outcome, push, quick_folder
from tests.faults.kill_worker import Kill, Worker
from tests.faults.resume import Plan


@pytest.fixture(scope="module")
def worker():
    with Worker("tests.faults.resume") as started:
        yield started


@pytest.fixture
def disk():
    with quick_folder() as folder:
        yield folder


def test_runs_that_are_killed_end_as_one_that_is_not():
    outcome = push(resume.CAMPAIGN)
    assert outcome.failures == []
    assert float(outcome.figures["kills"]) >= 15
    assert outcome.figures["vectors of a real model, byte-equal"] == 40
    assert float(outcome.figures["encoded again"]) > 0
    assert float(outcome.figures["windows lost by one kill (max)"]) <= 2


def test_a_corpus_that_changed_is_gone_on_with_too(worker, disk):
    outcome = Outcome(1)
    resume.run_case(worker, Plan(300, 32, 8, changed=True, seed=SEED), disk, outcome)
    assert float(outcome.figures["kills"]) >= 4


def test_the_index_has_all_that_a_large_one_has(worker, disk):
    plan = Plan(1_000, 64, 0, seed=SEED)
    ran = worker.run(resume.JOB, disk, asdict(plan), False)
    assert (ran.status, resume.encoded_by(ran)) == (0, 1_000)
    assert {"batch", "commit", "lexical-link", "unlink", "rename"} <= set(ran.points)
    assert ran.points.count("unlink") > 10  # segments were merged
    with Reader(disk) as reader:
        snapshot = reader.snapshot()
        assert all(row.tok_name for row in snapshot.segments)
        assert {row.kind for row in snapshot.caches} == {"faiss", "lexical"}
        assert snapshot.rotation is not None
    whole = resume.dump(disk)
    assert resume.difference(whole, whole) == ""
    for at, value in ((0, 10_000), (1, "another"), (9, b"\0" * 64), (10, False), (11, b"")):
        changed = list(whole["passages"])
        row = list(changed[500])
        assert row[at] != value
        row[at] = value
        changed[500] = tuple(row)
        assert "1 of 1000" in resume.difference(whole, {**whole, "passages": changed})
    for name in ("rotation", "sources", "totals", "encoder", "dims"):
        assert name in resume.difference(whole, {**whole, name: None})
    assert "999 of them" in resume.difference(whole, {**whole, "passages": whole["passages"][1:]})


def test_what_encodes_everything_again_is_caught(worker, disk, monkeypatch):
    """A job that begins with an empty index each time loses more than two windows by a kill."""
    monkeypatch.setattr(resume, "JOB", "tests.faults.resume.index_from_nothing")
    monkeypatch.setattr(resume.Killing, "next_kill", lambda *_: Kill("batch", 20))
    plan = Plan(400, 64, 2, seed=SEED)
    with pytest.raises(AssertionError, match="encoded again|lost"):
        resume.run_case(worker, plan, disk, Outcome(1))


def test_a_plan_is_a_function_of_seed_and_case():
    plans = [resume.plan_of(SEED, case) for case in range(resume.CAMPAIGN.full)]
    assert plans == [resume.plan_of(SEED, case) for case in range(resume.CAMPAIGN.full)]
    assert plans[0].real
    assert (plans[3].documents, plans[3].kills) == (10_000, 20)
    first, second = plans[2].corpus(), plans[2].second_corpus()
    assert plans[2].changed
    same = [d for d in second if d in first]
    assert 250 < len(same) < 350
    assert len(second) == 900
    assert replace(plans[1], seed=0) != plans[1]


def test_too_little_memory_is_told_in_one_line_and_harms_nothing():
    outcome = push(low_memory.CAMPAIGN)
    assert outcome.failures == []
    least = {
        "runs that succeeded": 1, "runs refused in one line": 5, "stopped midway": 3,
        "searches answered": 1, "searches refused in one line": 1,
    }  # fmt: skip
    assert {name: least[name] for name in least if float(outcome.figures[name]) < least[name]} == {}


def test_a_command_that_ends_otherwise_is_caught(disk, monkeypatch):
    with Worker("tests.faults.low_memory", MALLOC_ARENA_MAX="1") as worker:
        bench = low_memory.Bench(worker, disk / "bench")
        monkeypatch.setattr(low_memory, "JOB", "tests.faults.low_memory.careless")
        wrong = set()
        for room in (1 << 20, 8 << 20, 20 << 20):
            with pytest.raises(AssertionError, match="it ended by|exit|does not say") as caught:
                low_memory.index_case(bench, disk / str(room), room, Outcome(1))
            wrong.add(str(caught.value)[:20])
        assert wrong


def test_room_is_asked_for_before_libraries_need_it(monkeypatch):
    resources.require_room(1 << 20, "a test")
    with pytest.raises(
        OutOfMemory, match=r"not enough memory: a test needs .* GB of it: end other"
    ):
        resources.require_room(1 << 60, "a test")
    engine.create()
    monkeypatch.setattr(engine, "_ROOM", 1 << 60)
    for index_of_words in (engine.create, lambda: engine.open_folder("nowhere")):
        with pytest.raises(OutOfMemory, match="the index of words needs"):
            index_of_words()


def test_no_thread_is_begun_where_there_is_no_room_for_it(monkeypatch):
    with threads.Pool(1) as pool:
        assert pool.submit(max, 1, 2).result() == 2
        monkeypatch.setattr(threads, "_THREAD", 1 << 60)
        with pytest.raises(OutOfMemory, match="another thread needs"):
            pool.submit(max, 1, 2)
    with pytest.raises(OutOfMemory, match="another thread needs"):
        one_ahead(iter([1]), lambda job, _: job, lambda *_: None)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_the_command_line_says_in_one_line_that_memory_is_short(monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(Commands, "get_command", fail)
    result = CliRunner().invoke(cli, ["status"])
    assert result.exit_code == 1
    assert result.output.count("\n") == 1
    assert "Error: not enough memory: what was committed is safe" in result.output


def test_another_error_is_not_taken_for_a_lack_of_memory(monkeypatch):
    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Commands, "get_command", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        CliRunner().invoke(cli, ["status"], catch_exceptions=False)
