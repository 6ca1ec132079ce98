"""Backups during writes, at the size for every day; and that a wrong one would show."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from semsearch.collection import backup, lexical_cache, maintain, vector_build
from semsearch.collection.backup import back_up, restore
from semsearch.collection.beside import size_of
from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from semsearch.errors import Corrupt
from tests.fakes import contents, dump
from tests.faults import backups, writing
from tests.faults.backups import CAMPAIGN, Taken, differing, digests
from tests.faults.campaign import push
from tests.faults.readers import vector_of


def test_backups_during_writes_are_those_of_the_generation_they_name():
    outcome = push(CAMPAIGN)
    assert outcome.failures == []
    for name in ("refused damage", "replaced", "generations", "puts", "compactions"):
        assert float(outcome.figures[name]) > 0, name


@pytest.fixture(scope="module")
def truth():
    return writing.Truth(3, [writing.Entry(2, 0, 0), writing.Entry(5, 1, 1)])


def taken_at(truth, gen):
    state, model = truth.at(gen)
    vectors = {id: vector_of(model, document) for id, document in state.items()}
    hits = [(id, state[id].text) for id in list(state)[:5]]
    return Taken(0, gen, dict(state), vectors, hits)


def test_a_backup_that_is_right_is_right(truth):
    assert differing(taken_at(truth, 3), truth) == ""
    assert differing(taken_at(truth, 6), truth) == ""


def test_a_backup_of_another_generation_or_with_another_vector_is_found(truth):
    right = taken_at(truth, 3)
    assert "other documents" in differing(right._replace(gen=6), truth)
    id, vector = next(iter(right.vectors.items()))
    other = right.vectors | {id: np.roll(vector, 1)}
    assert "other vectors" in differing(right._replace(vectors=other), truth)
    fewer = {key: value for key, value in right.vectors.items() if key != id}
    assert "vectors of other documents" in differing(right._replace(vectors=fewer), truth)
    assert "4 hits" in differing(right._replace(hits=right.hits[:4]), truth)
    assert "not there" in differing(right._replace(hits=[*right.hits[:4], ("d0", "?")]), truth)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swapped") / "index"
    with writing.sizes():
        work = writing.Work(folder, 5)
        work.take(11)
    assert work.done["swap"] == 1
    return folder


def test_what_is_beside_is_left_out_and_what_was_backed_up_is_whole(index, tmp_path):
    assert (index / "beside").is_dir()
    made = back_up(index, tmp_path / "backup")
    restored = restore(tmp_path / "backup", tmp_path / "restored")
    assert not (tmp_path / "restored" / "beside").exists()
    assert dump(tmp_path / "restored") == dump(index)
    with Reader(index) as reader:
        assert made.generation == restored.generation == reader.snapshot().generation.gen


def test_a_restored_index_is_written_to_and_swapped_as_any_other(index, tmp_path):
    back_up(index, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "restored")
    with writing.sizes():
        work = writing.Work(tmp_path / "restored", 5)
        work.step, work.model = 11, 1
        work.take(18)  # to the other model again, among others
    state: writing.State = {}
    for number in range(29):
        state = writing.after(5, number, state)
    assert {id: d.text for id, d in contents(tmp_path / "restored").items()} == {
        id: d.text for id, d in state.items()
    }
    assert backups.findings(tmp_path / "restored") == []


@pytest.mark.parametrize("name", ["catalog.db", "seg"])
def test_a_backup_that_is_cut_short_is_refused_and_the_present_index_stays(index, tmp_path, name):
    back_up(index, tmp_path / "backup")
    present = shutil.copytree(index, tmp_path / "present")
    before = digests(present)
    path = tmp_path / "backup" / name
    path = sorted(path.glob("*.vec"))[0] if path.is_dir() else path
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(Corrupt, match=path.name):
        restore(tmp_path / "backup", present, replace=True)
    assert digests(present) == before


# ---- what a writer takes away meanwhile


def test_words_that_a_commit_replaces_meanwhile_are_copied_as_they_are_now(
    index, tmp_path, monkeypatch
):
    folder = shutil.copytree(index, tmp_path / "index")
    real = backup._named
    times: list[object] = []

    def named(source, place):
        found = real(source, place)
        if len(times) < 3:
            times.append(found)
            with writing.sizes(), open_for_writing(Layout(folder)) as writer:
                lexical_cache.build_lexical_cache(writer, force=True)
                vector_build.build_vector_cache(writer, force=True)
        return found

    monkeypatch.setattr(backup, "_named", named)
    back_up(folder, tmp_path / "backup")
    assert len(times) == 3
    with Reader(tmp_path / "backup") as reader:
        assert [str(finding) for finding in check_index(reader)] == []
        assert {row.kind for row in reader.snapshot().caches} == {"faiss", "lexical"}


def test_token_vectors_that_are_merged_away_meanwhile_are_no_damage(index, tmp_path, monkeypatch):
    folder = shutil.copytree(index, tmp_path / "index")
    real = backup._named
    times: list[object] = []

    def named(source, place):
        found = real(source, place)
        if not times:
            times.append(found)
            with writing.sizes(), open_for_writing(Layout(folder)) as writer:
                maintain.compact(writer)
            for path in found[0]:  # removed one after another: these are still there
                path.touch()
        return found

    monkeypatch.setattr(backup, "_named", named)
    assert any(path.suffix == ".tok" for path in real(Layout(folder), Layout(folder))[1])
    back_up(folder, tmp_path / "backup")
    assert backups.findings(tmp_path / "backup") == []


def test_files_that_go_while_they_are_counted_do_not_count(tmp_path, monkeypatch):
    for name in ("stays", "goes"):
        (tmp_path / name).write_bytes(b"12345")
    real = Path.is_file

    def is_file(path):
        found = real(path)
        if path.name == "goes":
            path.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "is_file", is_file)
    assert size_of(tmp_path) == 5
    assert size_of(tmp_path / "nowhere") == 0
