"""What a machine cannot do: precision that it lacks, memory that runs out; trainer arguments."""

import re
from dataclasses import replace

import pytest
import torch

from semsearch.errors import InputError, OutOfMemory, SemsearchError
from semsearch.training import run as run_module
from semsearch.training.arguments import settle_precision, trainer_arguments
from semsearch.training.base_model import open_base
from semsearch.training.memory import memory_advice
from semsearch.training.recipe import Data, Loss, Recipe, Training
from semsearch.training.recipe_file import read_recipe, recipe_text
from tests import models
from tests.training_sets import (
    MODEL,
    QUICK,
    easy_rows,
    made_rows,
    one_thread,
    small_recipe,
    trained,
    write_easy,
)


@pytest.fixture(scope="module", autouse=True)
def threads():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_easy(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def texts():
    return made_rows(*((row["anchor"], row["positive"]) for row in easy_rows(150)))


# Precision


def test_wishes_that_a_processor_cannot_fulfil_are_told(root, tmp_path, caplog):
    recipe = small_recipe(**QUICK, fp16=True, tf32=True)
    found = trained(recipe, root, tmp_path / "made")
    fp16, tf32 = found.notices
    assert fp16.startswith("fp16 asks for an NVIDIA device and there is none: ")
    assert tf32.startswith("tf32 asks for an NVIDIA device from Ampere on")
    assert fp16 in caplog.text
    card = (found.folder / "README.md").read_text()
    instead = "bf16" if "bf16 instead" in fp16 else "float32"
    assert f"* Asked for: fp16 + tf32\n* Computed in: {instead}\n* {fp16}\n* {tf32}\n" in card


@pytest.mark.parametrize("has", [True, False])
def test_precisions_of_a_processor(monkeypatch, has):
    monkeypatch.setattr("semsearch.training.arguments._cpu_has_bf16", lambda: has)
    full = Training()
    assert settle_precision(full, "cpu") == (full, ())
    fp16 = settle_precision(replace(full, fp16=True), "cpu")
    assert fp16.training == replace(full, bf16=has)
    assert fp16.notices[0].endswith("bf16 instead" if has else "float32 instead")
    bf16 = settle_precision(replace(full, bf16=True, tf32=True), "cpu")
    assert bf16.training == replace(full, bf16=has)
    assert len(bf16.notices) == 2 - has
    apple = settle_precision(replace(full, bf16=True), "mps")
    assert (apple.training, len(apple.notices)) == (full, 1)


def test_arguments_reach_the_trainer(tmp_path):
    recipe = small_recipe(
        weight_decay=0.01, lr_scheduler_type="cosine", warmup_steps=0.25, max_grad_norm=0.5,
        gradient_accumulation_steps=2, multi_dataset_batch_sampler="round_robin",
        batch_sampler="batch_sampler", eval_strategy="steps", eval_steps=7.0, max_length=9,
    )  # fmt: skip
    with models.calm():
        found = trainer_arguments(recipe, recipe.training, tmp_path, "cpu")
    for name in ("weight_decay", "learning_rate", "max_grad_norm", "gradient_accumulation_steps"):
        assert getattr(found, name) == getattr(recipe.training, name)
    assert (found.lr_scheduler_type, found.warmup_steps, found.eval_steps) == ("cosine", 0.25, 7)
    assert found.batch_sampler == "batch_sampler"
    assert found.multi_dataset_batch_sampler == "round_robin"
    assert (found.seed, found.use_cpu, found.report_to) == (42, True, [])
    assert found.output_dir == str(tmp_path)


# Memory

FAILURES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory:"
        " you tried to allocate 4398046511104 bytes. Error code 12 (Cannot allocate memory)"
    ),
    MemoryError(),
]
SETTINGS = [
    (Loss(), {"per_device_train_batch_size": 16}, "CachedMultipleNegativesRankingLoss"),
    (Loss("CachedMultipleNegativesRankingLoss", mini_batch_size=8), {}, "mini_batch_size to 4"),
    (Loss("TripletLoss"), {"per_device_train_batch_size": 16}, "batch_size to 8 and raise"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
def test_out_of_memory_names_the_setting_to_change(root, tmp_path, monkeypatch, failure):
    def failing(*_):
        def fail(*_, **__):
            raise failure

        loss = torch.nn.Identity()
        loss.forward = fail  # type: ignore[method-assign]
        return loss

    monkeypatch.setattr(run_module, "build_loss", failing)
    with pytest.raises(OutOfMemory) as caught:
        trained(small_recipe(**QUICK), root, tmp_path / "made")
    told = str(caught.value)
    assert "\n" not in told
    assert told.startswith("out of memory on cpu with batches of 16 texts of up to 16 tokens: set")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(("loss", "training", "told"), SETTINGS)
def test_the_advice_can_be_followed(tmp_path, texts, loss, training, told):
    """What the line says is applied as it says it, and is a valid recipe that says less next."""
    model = open_base(MODEL, [texts], 1, "cpu")
    recipe = replace(small_recipe(**training), loss=loss)
    for _ in range(3):
        with pytest.raises(OutOfMemory) as caught, memory_advice(recipe, model):
            raise torch.OutOfMemoryError("x")
        assert told in str(caught.value)
        advised = changes_of(str(caught.value))
        (tmp_path / "r.toml").write_text(recipe_text(recipe))
        changed = read_recipe(tmp_path / "r.toml", advised)
        assert changed != recipe
        recipe = changed
        told = ""


def changes_of(told):
    """The settings that a line of advice names, as changes for the command line."""
    _, _, advice = told.partition(" tokens: ")
    first = re.split(r", or |; or ", advice)[0]
    equal = re.findall(r"([a-z_.]+) = (\"\w+\"|\d+)", first)
    lower = re.findall(r"([a-z_.]+) to (\d+)", first)
    found = [f"{name}={value}" for name, value in [*equal, *lower]]
    assert found, told
    return [name if "." in name.partition("=")[0] else f"training.{name}" for name in found]


def test_other_errors_stay_what_they_are(texts):
    model = open_base(MODEL, [texts], 1, "cpu")
    recipe = Recipe((Data("x"),))
    with pytest.raises(RuntimeError, match="shapes"), memory_advice(recipe, model):
        raise RuntimeError("shapes cannot be multiplied")
    with pytest.raises(SemsearchError), memory_advice(recipe, model):
        raise InputError("x")
