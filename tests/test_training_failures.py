"""Training that cannot go on: a full disk, weights that are no numbers, folders in use."""

import errno
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from semsearch.errors import Locked, ModelError, StorageError, UsageError
from semsearch.training import run as run_module
from semsearch.training.checkpoints import Work, saving_errors
from semsearch.training.recipe import Evaluation
from tests.training_sets import QUICK, one_thread, same, small_recipe, trained, write_easy


@pytest.fixture(scope="module", autouse=True)
def threads():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_easy(tmp_path_factory.mktemp("failures"), train=48)


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


# The disk


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full is needed")
def test_what_torch_cannot_save_is_said_in_one_line(tmp_path):
    told = "made: cannot write: the disk is full or failing"
    with pytest.raises(StorageError, match=told), saving_errors(tmp_path / "made"):
        torch.save({"a": torch.zeros(3)}, "/dev/full")


def test_what_safetensors_cannot_save_is_said_in_one_line(tmp_path):
    told = "Error while serializing: I/O error: No space left on device (os error 28)"
    line = "made: cannot write: the disk is full: free some space and run again"
    with pytest.raises(StorageError, match=line), saving_errors(tmp_path / "made"):
        raise SafetensorError(told)


@pytest.mark.parametrize("error", [SafetensorError("other"), RuntimeError("other"), KeyError("x")])
def test_what_is_not_about_writing_stays_what_it_is(tmp_path, error):
    with pytest.raises(type(error), match=str(error)), saving_errors(tmp_path):
        raise error


def test_a_disk_that_fills_up_stops_the_run_which_goes_on_later(root, tmp_path, monkeypatch):
    recipe = small_recipe(**QUICK)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sentence_transformers.SentenceTransformer.save_pretrained", full)
        with pytest.raises(StorageError, match=r"made\.work: cannot write: the disk is full"):
            trained(recipe, root, tmp_path / "made")
    assert trained(recipe, root, tmp_path / "made").steps == 3


# Weights


@pytest.mark.parametrize("kind", ["retrieval", "similarity", "classification", "triplets"])
def test_a_model_that_diverged_is_not_left_as_a_result(root, tmp_path, kind):
    """Measuring such a model on the way stops nothing by itself."""
    label = {"similarity": "score", "classification": "label"}.get(kind)
    path = "scored.jsonl" if label else "dev.jsonl"
    ways = ("cosine", "dot", "euclidean", "manhattan")
    measured = Evaluation(kind, path, "set", label=label, similarities=ways)  # type: ignore[arg-type]
    recipe = replace(small_recipe(learning_rate=1e30), evaluation=(measured,))
    with pytest.raises(ModelError, match=r"no numbers any more: lower training.learning_rate"):
        trained(recipe, root, tmp_path / "made")
    assert not (tmp_path / "made").exists()


# Folders


@pytest.mark.parametrize("output", [".", "/"])
def test_a_folder_needs_a_name(root, output):
    with pytest.raises(UsageError, match="no name for a new folder: choose another --output"):
        trained(small_recipe(**QUICK), root, Path(output))


def test_a_run_without_checkpoints_is_in_nobodys_way(root, tmp_path, monkeypatch):
    """Advice such as that on memory changes the recipe of a run that has not begun."""
    recipe = small_recipe(**QUICK)
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_check_metric", stop)
        with pytest.raises(KeyboardInterrupt):
            trained(recipe, root, tmp_path / "made")
    assert (tmp_path / "made.work").is_dir()
    found = trained(replace(recipe, seed=7), root, tmp_path / "made")
    whole = trained(replace(recipe, seed=7), root, tmp_path / "other")
    assert found.before == whole.before
    assert same(found.folder, whole.folder)


def test_two_runs_at_once_do_not_share_a_folder(root, tmp_path):
    with Work(tmp_path / "made", "someone's").open(fresh=False):
        for fresh in (False, True):
            with pytest.raises(Locked, match=r"made\.work: another process trains there"):
                trained(small_recipe(**QUICK), root, tmp_path / "made", fresh=fresh)
    assert trained(small_recipe(**QUICK), root, tmp_path / "made").steps == 3


def test_a_replaced_model_is_never_found_in_half(root, tmp_path, monkeypatch):
    recipe, output = small_recipe(**QUICK), tmp_path / "made"
    trained(recipe, root, output)
    other = replace(recipe, seed=7)
    rename = Path.rename

    def killed(self: Path, target: Path) -> Path:
        if self.name == "model":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # nothing is deleted before
        with pytest.raises(KeyboardInterrupt):
            trained(other, root, output, fresh=True)
    assert not output.exists()
    found = trained(other, root, output)
    assert not found.already
    assert same(found.folder, trained(other, root, tmp_path / "whole").folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "whole"]


def test_whoever_may_read_the_card_may_read_the_weights(root, tmp_path):
    found = trained(small_recipe(**QUICK), root, tmp_path / "made")
    modes = {stat.S_IMODE(p.stat().st_mode) for p in found.folder.rglob("*") if p.is_file()}
    assert modes == {stat.S_IMODE((found.folder / "README.md").stat().st_mode)}


# What is measured, changed


def test_a_run_that_goes_on_measures_before_as_it_does_after(root, tmp_path, monkeypatch):
    recipe = small_recipe(**QUICK | {"save_strategy": "epoch"})
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_write", stop)
        with pytest.raises(KeyboardInterrupt):
            trained(replace(recipe, evaluation=()), root, tmp_path / "made")
    found = trained(recipe, root, tmp_path / "made")
    assert found.resumed_from
    assert found.before.keys() == found.after.keys() != set()


def test_a_finished_run_says_that_it_was_measured_otherwise(root, tmp_path, caplog):
    recipe = small_recipe(**QUICK)
    trained(recipe, root, tmp_path / "made")
    assert trained(recipe, root, tmp_path / "made").already
    assert not caplog.messages
    assert trained(replace(recipe, evaluation=()), root, tmp_path / "made").already
    assert ["--fresh trains and measures again" in line for line in caplog.messages] == [True]


def test_a_longer_length_than_the_models_changes_nothing(root, tmp_path):
    whole = trained(small_recipe(**QUICK), root, tmp_path / "whole")
    longer = trained(small_recipe(**QUICK, max_length=4000), root, tmp_path / "longer")
    assert longer.after == whole.after
