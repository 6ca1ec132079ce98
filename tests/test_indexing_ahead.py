"""Encoding ahead: a window is encoded while the one before is committed, and nothing else changes.

Events, not clocks, say what happened at the same time; each wait has an end only so that a failure
is not a test that hangs.
"""

from threading import Event, current_thread

import pytest

from semsearch.collection.writer import Writer
from semsearch.errors import InputError, ModelError, StorageError
from semsearch.indexing import source
from semsearch.indexing.ahead import Abandoned, one_ahead
from semsearch.types import Document
from tests.fakes import FakeEncoder, contents, index_into, make_documents

LONG = 30.0


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "made.idx"


@pytest.fixture(autouse=True)
def _windows_of_ten(monkeypatch):
    """A window is one batch of the fake encoder."""
    monkeypatch.setattr(source, "WINDOW_DOCUMENTS", 10)


def watch_commits(monkeypatch, before):
    """Call ``before(number)`` ahead of each commit of a window; returns the ids of each."""
    commit = Writer.commit
    seen: list[list[str]] = []

    def watched(self, changes):
        before(len(seen) + 1)
        seen.append([change.document.id for change in changes])
        return commit(self, changes)

    monkeypatch.setattr(Writer, "commit", watched)
    return seen


def test_a_window_is_encoded_while_the_one_before_is_committed(folder, monkeypatch):
    encoding = {number: Event() for number in range(1, 5)}
    committed = {number: Event() for number in range(4)}
    committed[0].set()
    owner = current_thread()

    def before_batch(number):
        assert current_thread() is not owner
        encoding[number].set()
        assert committed[number - 1].wait(LONG), "the one before is not committed meanwhile"

    commit = Writer.commit

    def meanwhile(self, changes):
        number = next(n for n in committed if not committed[n].is_set())
        assert current_thread() is owner
        assert number == 4 or encoding[number + 1].wait(LONG), "the next is not encoded meanwhile"
        generation = commit(self, changes)
        committed[number].set()
        return generation

    committed[4] = Event()
    monkeypatch.setattr(Writer, "commit", meanwhile)
    documents = make_documents(40)
    index_into(folder, FakeEncoder(before_batch=before_batch), documents)
    assert list(contents(folder).values()) == documents


def test_windows_are_committed_whole_and_in_order(folder, monkeypatch):
    documents = make_documents(45)
    seen = watch_commits(monkeypatch, lambda _: None)
    index_into(folder, FakeEncoder(), documents)
    assert seen == [[d.id for d in documents[at : at + 10]] for at in range(0, 45, 10)]


def failing(number, error):
    def before(reached):
        if reached == number:
            raise error

    return before


def with_error_after(documents, count, error):
    yield from documents[:count]
    raise error


@pytest.mark.parametrize("error", [ModelError("broken"), KeyboardInterrupt()])
def test_an_error_while_encoding_keeps_the_windows_before(folder, error):
    documents = make_documents(50)
    with pytest.raises(type(error)):
        index_into(folder, FakeEncoder(before_batch=failing(3, error)), documents)
    assert list(contents(folder)) == [d.id for d in documents[:20]]


@pytest.mark.parametrize("error", [InputError("not valid JSON"), KeyboardInterrupt()])
def test_an_error_while_reading_keeps_the_windows_before(folder, error):
    documents = make_documents(50)
    with pytest.raises(type(error)):
        index_into(folder, FakeEncoder(), with_error_after(documents, 35, error))
    assert list(contents(folder)) == [d.id for d in documents[:30]]


def test_the_first_of_two_errors_is_raised(folder):
    encoder = FakeEncoder(before_batch=failing(3, ModelError("broken")))
    unread = with_error_after(make_documents(50), 35, InputError("not valid JSON"))
    with pytest.raises(ModelError, match="^broken$"):
        index_into(folder, encoder, unread)
    assert len(contents(folder)) == 20


def test_an_error_while_committing_commits_nothing_after_it(folder, monkeypatch):
    documents = make_documents(50)
    seen = watch_commits(monkeypatch, failing(2, StorageError("disk full")))
    with pytest.raises(StorageError, match="^disk full$"):
        index_into(folder, FakeEncoder(), documents)
    assert len(seen) == 1
    assert list(contents(folder)) == [d.id for d in documents[:10]]


def test_a_text_of_the_window_before_is_not_encoded_again(folder):
    encoder = FakeEncoder()
    documents = [Document(f"{n}", f"text {n % 10}") for n in range(40)]
    summary = index_into(folder, encoder, documents)
    assert encoder.documents == [f"text {n}" for n in range(10)]
    assert (summary.new, summary.encoded) == (40, 10)
    assert list(contents(folder).values()) == documents


@pytest.mark.parametrize("texts", [("a", "b", "a"), ("b", "b", "b"), ("a", "a", "b")])
def test_an_id_of_the_window_before_is_compared_with_what_it_will_be(folder, monkeypatch, texts):
    index_into(folder, FakeEncoder(), [Document("same", "a")])
    documents = []
    for number, text in enumerate(texts):
        fill = [Document(f"{number} {n}", f"filling {n}") for n in range(9)]
        documents += [Document("same", text), *fill]
    seen = watch_commits(monkeypatch, lambda _: None)
    encoder = FakeEncoder()
    summary = index_into(folder, encoder, documents, on_duplicate="replace")
    assert contents(folder)["same"].text == texts[-1]
    stored = [before != after for before, after in zip(("a", *texts), texts, strict=False)]
    assert ["same" in ids for ids in seen] == stored, "only what differs is stored again"
    assert encoder.documents.count("b") == 1
    assert encoder.documents.count("a") == 0
    assert (summary.new, summary.duplicates) == (27, 2)


def test_no_more_than_two_jobs_are_held():
    drawn: list[int] = []
    finished: list[int] = []

    def jobs():
        for number in range(6):
            assert len(finished) >= number - 1
            drawn.append(number)
            yield number

    def finish(job, done):
        assert done == job * job
        finished.append(job)

    one_ahead(jobs(), lambda job, _: job * job, finish)
    assert finished == drawn == list(range(6))


def test_work_that_nobody_waits_for_is_told_to_stop():
    ended = Event()

    def work(job, stop):
        if job:
            assert stop.wait(LONG)
            ended.set()
            raise Abandoned

    def finish(_job, _done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one_ahead(iter(range(3)), work, finish)
    assert ended.wait(LONG)
