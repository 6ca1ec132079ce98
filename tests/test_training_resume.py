"""Training that is killed at any moment goes on, and ends as one that was never stopped."""

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from difflib import unified_diff

import numpy as np
import pytest

from semsearch.training.recipe import Data, Evaluation, Loss, Matryoshka
from semsearch.training.recipe_file import recipe_text
from tests.test_cli_process import ROOT, environment
from tests.training_sets import CHAINS, PAIRS, same, small_recipe, weights, write_easy

KILLED = 9

# Dropout, widths drawn for each step, and the best checkpoint: all that has a state.
BY_EPOCH = small_recipe(
    CHAINS["mpnet"], num_train_epochs=3.0, load_best_model_at_end=True,
    metric_for_best_model="dev_dim_16_cosine_ndcg@10", logging_steps=4.0, learning_rate=2e-3,
    save_total_limit=1,
)  # fmt: skip
BY_EPOCH = replace(BY_EPOCH, loss=Loss(matryoshka=Matryoshka((32, 16), n_dims_per_step=1)))

# Checkpoints in the middle of epochs and of what is logged, two sources, steps of two batches.
BY_STEPS = replace(
    small_recipe(
        CHAINS["bert-dense"], num_train_epochs=3.0, eval_strategy="steps", eval_steps=4.0,
        save_strategy="steps", save_steps=4.0, logging_steps=3.0, gradient_accumulation_steps=2,
        batch_sampler="batch_sampler", multi_dataset_batch_sampler="round_robin",
        lr_scheduler_type="cosine", per_device_train_batch_size=4,
    ),
    data=(
        Data("train.jsonl", columns=PAIRS, rows=":48"),
        Data("train.jsonl", "second", columns=PAIRS, rows="48:"),
    ),
    evaluation=(
        Evaluation("retrieval", "dev.jsonl", "dev"),
        Evaluation("loss", "dev.jsonl", "rows", columns=PAIRS),
        Evaluation("loss", "train.jsonl", "again", columns=PAIRS, rows=":20"),
    ),
)  # fmt: skip
RECIPES = {"epoch": BY_EPOCH, "steps": BY_STEPS}


class Worker:
    """Runs trainings one after the other, each in a process that can be killed."""

    def __init__(self, folder):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.training_worker", str(folder / "warm")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        self._root = write_easy(folder / "data")
        assert self._line() == "ready"

    def _line(self):
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def run(self, recipe, output, point="", occurrence="0"):
        """Signal, what it said, and seconds of a run that is killed at a point (or is not)."""
        file = output.parent / "recipe.toml"
        file.write_text(recipe_text(recipe))
        words = [self._root, file, output, point, occurrence]
        assert self._process.stdin is not None
        print(*words, sep="\t", file=self._process.stdin, flush=True)
        said: list[str] = []
        while not (line := self._line()).startswith("end "):
            assert line or self._process.poll() is None, said
            said.append(line)
        _, status, seconds = line.split()
        return int(status), said, float(seconds)

    def finish(self, recipe, output):
        """Run to the end; returns what training.json says."""
        status, said, _ = self.run(recipe, output, "none")
        assert (status, said) == (0, [])
        return json.loads((output / "training.json").read_text())

    def stop(self):
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    made = Worker(tmp_path_factory.mktemp("worker"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def whole(worker, tmp_path_factory):
    """Of each recipe: the folder of a run that nobody stopped, the points it passed, its time."""
    made = {}
    for name, recipe in RECIPES.items():
        output = tmp_path_factory.mktemp(name) / "made"
        status, points, seconds = worker.run(recipe, output)
        assert status == 0, points
        made[name] = output, points, seconds
    return made


def card_of(folder):
    """The card, but for what it took in time."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    return re.sub(r"(?s)### Training Time\n.*?\n\n", "", card)


FACTS = ("recipe", "before", "after", "checks", "notices", "rows", "steps", "best_step", "identity")


def assert_as_whole(output, other):
    """The same weights to the last bit, the same measures, the same card; nothing is left over."""
    assert same(output, other)
    facts, expected = (json.loads((f / "training.json").read_text()) for f in (output, other))
    assert {name: facts[name] for name in FACTS} == {name: expected[name] for name in FACTS}
    lines, wanted = card_of(output).splitlines(), card_of(other).splitlines()
    assert list(unified_diff(wanted, lines, n=0, lineterm="")) == []
    assert sorted(path.name for path in output.parent.iterdir()) == ["made", "recipe.toml"]


def is_whole(output):
    """Whether the model's folder is there; if so, it has everything."""
    if not output.exists():
        return False
    for name in ("training.json", "README.md", "modules.json", "tokenizer.json"):
        assert (output / name).is_file(), name
    assert weights(output)
    return True


@pytest.mark.parametrize("name", RECIPES)
def test_a_second_run_in_another_process_is_the_same(worker, whole, tmp_path, name):
    worker.finish(RECIPES[name], tmp_path / "made")
    assert_as_whole(tmp_path / "made", whole[name][0])


def test_the_recipes_are_worth_a_test(whole):
    facts = json.loads((whole["epoch"][0] / "training.json").read_text())
    assert facts["best_step"] in (6, 12, 18)
    assert facts["before"] != facts["after"]
    for name in RECIPES:
        card = card_of(whole[name][0])
        assert "#### Information Retrieval" in card
        assert card.split("### Training Logs")[1].count("\n| ") > 6
    facts = json.loads((whole["steps"][0] / "training.json").read_text())
    assert {"rows_loss", "again_loss", "dev_dim_16_cosine_ndcg@10"} <= facts["after"].keys()
    assert facts["before"].keys() == facts["after"].keys()


def points_of(whole, name):
    """All points that a run passes, as (name, occurrence); of those alike in a row the ends."""
    seen: Counter[str] = Counter()
    found: list[tuple[str, int]] = []
    points = ["", *whole[name][1], ""]
    for before, point, after in zip(points, points[1:], points[2:], strict=False):
        seen[point] += 1
        if not before == point == after:
            found.append((point, seen[point]))
    return found


def assert_survives(worker, whole, folder, name, kills):
    """Kill a run at each of these moments in turn, then let it end."""
    output = folder / "made"
    for point, occurrence in kills:
        status, said, _ = worker.run(RECIPES[name], output, point, occurrence)
        assert status in (0, KILLED), said
        if is_whole(output):
            break
    facts = worker.finish(RECIPES[name], output)
    assert_as_whole(output, whole[name][0])
    return facts


def kill_at_each(worker, whole, folder, name, points):
    """Kill a run of its own at each of the points, let it go on, and compare the ends."""
    for number, (point, occurrence) in enumerate(points):
        output = folder / f"{number}" / "made"
        output.parent.mkdir()
        status, said, _ = worker.run(RECIPES[name], output, point, occurrence)
        assert (status, said) == (KILLED, []), (point, occurrence)
        is_whole(output)
        worker.finish(RECIPES[name], output)
        assert_as_whole(output, whole[name][0])


@pytest.mark.parametrize("name", RECIPES)
def test_killed_at_some_points(worker, whole, tmp_path, name):
    points = points_of(whole, name)
    chosen = np.random.default_rng(1).choice(len(points), 3, replace=False).tolist()
    kill_at_each(worker, whole, tmp_path, name, [points[i] for i in {*chosen, len(points) - 1}])


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_killed_at_every_third_point(worker, whole, tmp_path, name):
    kill_at_each(worker, whole, tmp_path, name, points_of(whole, name)[::3])


def test_it_goes_on_from_the_last_checkpoint(worker, whole, tmp_path):
    """Killed while the state of the second checkpoint is written: the first one is the last."""
    state = "TrainerState.save_to_json"
    facts = assert_survives(worker, whole, tmp_path, "epoch", [(state, 2)])
    assert facts["resumed_from"] == 6


@pytest.mark.parametrize(
    "seed", [pytest.param(n, marks=[pytest.mark.slow] * (n > 1)) for n in range(8)]
)
def test_killed_again_and_again_at_random_times(worker, whole, tmp_path, seed):
    name = sorted(RECIPES)[seed % 2]
    random = np.random.default_rng(seed)
    kills = [("time", f"{t:.3f}") for t in random.uniform(0.2, 1.1, 4) * whole[name][2]]
    assert_survives(worker, whole, tmp_path, name, kills)
