"""Recipes: defaults, published values, round trips, and one line with a place for what is wrong."""

import dataclasses
import math
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from semsearch.errors import InputError, NotFound, SemsearchError, UsageError
from semsearch.training.recipe import (
    Data,
    Evaluation,
    Judgement,
    Lora,
    Loss,
    Matryoshka,
    Model,
    Recipe,
    Scratch,
    Training,
)
from semsearch.training.recipe_file import (
    published_recipes,
    read_recipe,
    recipe_digest,
    recipe_text,
)

RECIPES = Path(__file__).parents[1] / "data" / "recipes"
ROWS = '[[data]]\npath = "rows.jsonl"\n'

FULL = Recipe(
    data=(
        Data("a.jsonl", "first", "dev", {"anchor": "q", "positive": "a"}, 1.0, ":100"),
        Data("folder", label="score"),
    ),
    name="everything",
    seed=7,
    sample=500,
    model=Model(
        "scratch", 96, "lasttoken", 48, True, True, "en, pt", "mit",
        Scratch("xlm-roberta", 32, 1, 2, 64, 300, 0.05, "unigram", False),
    ),
    loss=Loss(
        "CachedMultipleNegativesRankingLoss", 30.0, True, True, 8, 0.25,
        Matryoshka((32, 16), (1.0, 0.5), 1),
    ),
    lora=Lora(4, 8, 0.1, ("query", "value")),
    training=Training(
        max_length=24, num_train_epochs=2.5, max_steps=90, per_device_train_batch_size=3,
        per_device_eval_batch_size=5, gradient_accumulation_steps=2, learning_rate=1e-3,
        lr_scheduler_type="constant_with_warmup", warmup_steps=12.0, weight_decay=0.01,
        max_grad_norm=0.5, optim="adamw_torch", bf16=True, tf32=True, gradient_checkpointing=True,
        batch_sampler="group_by_label", multi_dataset_batch_sampler="round_robin",
        eval_strategy="steps", eval_steps=10.0, save_strategy="steps", save_steps=10.0,
        save_total_limit=3, logging_steps=5.0, load_best_model_at_end=True,
        metric_for_best_model="loss", dataloader_num_workers=1, full_determinism=True,
    ),
    evaluation=(
        Evaluation("retrieval", "folder", "set", "test", corpus_size=50, unseen=True),
        Evaluation(
            "similarity", "s.tsv", columns={"a": "b"}, label=2.0, rows="-9:",
            similarities=("dot", "euclidean"),
        ),
    ),
    verdict=Judgement("folder", "dev", "mrr@10"),
)  # fmt: skip
"""Nothing in it is as it would be if it were left out."""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "made.toml"


@pytest.fixture
def read(file):
    def of(text, *changes):
        file.write_text(text, encoding="utf-8")
        return read_recipe(file, changes)

    return of


@pytest.fixture
def refused(read, file):
    """The message about a recipe, without the file's name: ``line: what``."""

    def message(text, *changes):
        with pytest.raises(InputError) as caught:
            read(text, *changes)
        told = str(caught.value)
        assert "\n" not in told
        assert told.startswith(f"{file}:")
        return told.removeprefix(f"{file}:").strip()

    return message


def test_every_default(read):
    assert read(ROWS) == Recipe(
        data=(Data("rows.jsonl", "", "train", {}, None, ""),), name="made", seed=42, sample=0
    )
    recipe = read(ROWS)
    assert dataclasses.asdict(recipe.model) == {
        "base": "sentence-transformers/all-MiniLM-L6-v2", "max_length": 0, "pooling": "mean",
        "dense": 0, "normalize": False, "rotate": False, "language": "", "license": "",
        "scratch": None,
    }  # fmt: skip
    assert dataclasses.asdict(recipe.loss) == {
        "name": "MultipleNegativesRankingLoss", "scale": 20.0, "symmetric": False,
        "gather_across_devices": False, "mini_batch_size": 32, "margin": 0.5, "matryoshka": None,
    }  # fmt: skip
    assert dataclasses.asdict(recipe.training) == {
        "max_length": 0, "num_train_epochs": 1.0, "max_steps": -1,
        "per_device_train_batch_size": 32, "per_device_eval_batch_size": 32,
        "gradient_accumulation_steps": 1, "learning_rate": 2e-5, "lr_scheduler_type": "linear",
        "warmup_steps": 0.1, "weight_decay": 0.0, "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused", "fp16": False, "bf16": False, "tf32": False,
        "gradient_checkpointing": False, "batch_sampler": "no_duplicates",
        "multi_dataset_batch_sampler": "proportional", "eval_strategy": "epoch",
        "eval_steps": 0.1, "save_strategy": "epoch", "save_steps": 0.1, "save_total_limit": 2,
        "logging_steps": 0.02, "load_best_model_at_end": False, "metric_for_best_model": "",
        "dataloader_num_workers": 0, "full_determinism": False,
    }  # fmt: skip
    assert (recipe.lora, recipe.evaluation, recipe.verdict) == (None, (), None)


def test_what_a_table_leaves_out_has_its_default(read):
    found = read(
        ROWS + '[loss.matryoshka]\ndims = [64]\n[lora]\n[verdict]\npath = "set"\n'
        '[[evaluation]]\nkind = "loss"\npath = "dev"\n[model.scratch]\n'
    )
    assert found.loss.matryoshka == Matryoshka((64,), (), -1)
    assert found.lora == Lora(16, 32, 0.0, ())
    assert found.verdict == Judgement("set", "test", "ndcg@10")
    assert found.evaluation == (
        Evaluation("loss", "dev", "", "dev", {}, None, "", 0, False, ("cosine",)),
    )
    assert found.model.scratch == Scratch("bert", 256, 4, 4, 1024, 8000, 0.02, "wordpiece", True)


def differing(record, other):
    return {f.name for f in dataclasses.fields(record)} - {
        f.name
        for f in dataclasses.fields(record)
        if getattr(record, f.name) == getattr(other, f.name)
    }


def test_the_full_recipe_leaves_nothing_at_its_default():
    parts: list[Any] = [FULL.model, FULL.loss, FULL.training, FULL.lora, FULL.model.scratch]
    for part in parts:
        kept = {f.name for f in dataclasses.fields(part)} - differing(part, type(part)())
        assert kept - {"fp16"} == set(), type(part)  # fp16 excludes bf16


@pytest.mark.parametrize("recipe", [FULL, Recipe((Data("x"),), name="small")])
def test_the_printed_recipe_reads_as_the_same(recipe, read):
    text = recipe_text(recipe)
    assert read(text) == recipe
    assert recipe_text(read(text)) == text


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_published_recipe_prints_as_the_same(path, read):
    recipe = read_recipe(path)
    assert recipe.name == path.stem
    assert read(recipe_text(recipe)) == recipe


# What the originals' cards say: base, modules, data, loss, arguments, evaluation.
PUBLISHED: dict[str, dict[str, Any]] = {
    "duplicates-zh": {
        "model": ("sentence-transformers/all-mpnet-base-v2", 384, "mean", 0, True, "mpnet"),
        "columns": ["sentence_0", "sentence_1"],
        "training": {
            "per_device_train_batch_size": 16, "learning_rate": 5e-5, "num_train_epochs": 1,
            "lr_scheduler_type": "linear", "warmup_steps": 0, "batch_sampler": "batch_sampler",
            "multi_dataset_batch_sampler": "round_robin", "logging_steps": 500,
        },
        "evaluation": {"classification", "retrieval"},
    },
    "nli-deberta": {
        "model": ("microsoft/deberta-v3-xsmall", 512, "mean", 0, False, "deberta-v2"),
        "columns": ["sentence1", "sentence2"],
        "training": {
            "per_device_train_batch_size": 64, "learning_rate": 7.5e-5, "num_train_epochs": 2,
            "lr_scheduler_type": "linear", "warmup_steps": 0.25, "fp16": True,
            "batch_sampler": "batch_sampler", "multi_dataset_batch_sampler": "proportional",
            "eval_strategy": "steps", "eval_steps": 0.05 / 2,
        },
        "evaluation": {"similarity", "classification"},
    },
    "faq-matryoshka-pt": {
        "model": ("BAAI/bge-large-en-v1.5", 512, "cls", 0, True, "bert"),
        "columns": [],
        "training": {
            "per_device_train_batch_size": 32, "gradient_accumulation_steps": 16,
            "per_device_eval_batch_size": 16, "learning_rate": 2e-5, "num_train_epochs": 5,
            "lr_scheduler_type": "cosine", "warmup_steps": 0.1, "bf16": True, "tf32": True,
            "optim": "adamw_torch_fused", "batch_sampler": "no_duplicates",
            "multi_dataset_batch_sampler": "proportional", "eval_strategy": "epoch",
            "load_best_model_at_end": True,
        },
        "evaluation": {"retrieval"},
    },
    "qa-sinhala": {
        "model": (
            "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
            128, "mean", 0, False, "bert",
        ),
        "columns": ["sentence_0", "sentence_1"],
        "training": {
            "per_device_train_batch_size": 32, "learning_rate": 5e-5, "num_train_epochs": 1,
            "lr_scheduler_type": "linear", "warmup_steps": 0, "batch_sampler": "batch_sampler",
            "multi_dataset_batch_sampler": "round_robin",
        },
        "evaluation": {"retrieval"},
    },
    "poems-zh": {
        "model": ("richinfoai/ritrieve_zh_v1", 512, "mean", 1792, False, "bert"),
        "columns": [],
        "training": {
            "per_device_train_batch_size": 128, "learning_rate": 2e-5, "num_train_epochs": 6,
            "lr_scheduler_type": "linear", "warmup_steps": 0.1, "fp16": True,
            "batch_sampler": "no_duplicates", "multi_dataset_batch_sampler": "proportional",
            "eval_strategy": "steps", "eval_steps": 200,
        },
        "evaluation": {"loss", "triplets", "retrieval"},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_holds_the_values_of_the_original(name):
    recipe, wanted = read_recipe(RECIPES / f"{name}.toml"), PUBLISHED[name]
    model = recipe.model
    assert model.scratch is not None
    chain = (model.base, model.max_length, model.pooling, model.dense, model.normalize)
    assert (*chain, model.scratch.architecture) == wanted["model"]
    assert recipe.loss.name == "MultipleNegativesRankingLoss"
    assert (recipe.loss.scale, recipe.loss.symmetric) == (20.0, False)
    assert {key: getattr(recipe.training, key) for key in wanted["training"]} == wanted["training"]
    flags = {key for key in ("fp16", "bf16", "tf32") if getattr(recipe.training, key)}
    assert flags == wanted["training"].keys() & {"fp16", "bf16", "tf32"}
    accumulation = wanted["training"].get("gradient_accumulation_steps", 1)
    assert recipe.training.gradient_accumulation_steps == accumulation
    assert {one.kind for one in recipe.evaluation} == wanted["evaluation"]
    assert [list(data.columns) for data in recipe.data] == [wanted["columns"]]


def test_the_five_recipes_are_published():
    assert published_recipes().keys() >= PUBLISHED.keys()
    assert read_recipe("nli-deberta") == read_recipe(RECIPES / "nli-deberta.toml")


def test_what_only_one_published_recipe_has():
    faq, nli, qa, poems = (
        read_recipe(RECIPES / f"{name}.toml")
        for name in ("faq-matryoshka-pt", "nli-deberta", "qa-sinhala", "poems-zh")
    )
    assert faq.loss.matryoshka == Matryoshka((768, 512, 256, 128, 64), (1.0,) * 5, -1)
    ways = {one.kind: one.similarities for one in nli.evaluation}
    assert ways == dict.fromkeys(
        ("similarity", "classification"), ("cosine", "dot", "euclidean", "manhattan")
    )
    assert nli.evaluation[0].name == "sts-dev"
    assert qa.data[0].label == 1.0
    assert qa.model.scratch is not None
    assert qa.model.scratch.tokenizer == "unigram"
    assert [one.loss.matryoshka for one in (nli, qa, poems)] == [None] * 3


# What is wrong


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ROWS + "[training]\nlearning_rat = 1", "4: training.learning_rat: unknown key: did you"),
        (ROWS + "[trainig]\nlearning_rate = 1", "3: trainig: unknown key: did you mean 'training'"),
        ("zebra = 1\n" + ROWS, "1: zebra: unknown key: there are data, name, seed, sample"),
        ("", "data: is missing"),
        ("data = []", "1: data: names no rows"),
        ("[data]\npath = 'x'", "1: data: expected a list, each a table in double brackets"),
        (ROWS + "[evaluation]\nkind = 'loss'\npath = 'x'", "3: evaluation: expected a list"),
        (ROWS + ROWS.replace("path", "pat"), "4: data[2].pat: unknown key: did you mean 'path'?"),
        (ROWS + "[[data]]\nname = 'b'", "3: data[2].path: is missing"),
        (ROWS + "[[evaluation]]\nkind = 'los'\npath = 'x'", "4: evaluation.kind: expected one of"),
        ("name = 'a'\n" + ROWS + "[loss]\nname = 'x'", "5: loss.name: expected one of 'Multiple"),
        (ROWS + "columns = { anchor = 1 }", "3: data.columns: expected a table of texts"),
        (ROWS + "label = true", "3: data.label: expected"),
        (ROWS + "label = nan", "3: data.label: expected a number, found nan"),
        (ROWS + "[training]\nfp16 = 1", "4: training.fp16: expected true or false, found 1"),
        (ROWS + "[training]\nmax_steps = 1.5", "4: training.max_steps: expected a whole number"),
        (ROWS + "[training]\nmax_steps = true", "4: training.max_steps: expected a whole number"),
        (ROWS + "[training]\nlearning_rate = '1'", "4: training.learning_rate: expected a number"),
        (ROWS + "[training]\nlearning_rate = inf", "4: training.learning_rate: expected a number"),
        (ROWS + "[training]\nlearning_rate = 0", "4: training.learning_rate: must be above 0"),
        (ROWS + "[training]\nwarmup_steps = -1", "4: training.warmup_steps: must be 0 or more"),
        (ROWS + "[training]\noptim = 'sgd'", "4: training.optim: expected one of 'adamw_torch',"),
        (ROWS + "[training]\nfp16 = true\nbf16 = true", "4: training.fp16: fp16 and bf16 exclude"),
        ("training = 3\n" + ROWS, "1: training: expected a table [training]"),
        ("[model]\nscratch = 'x'\n" + ROWS, "2: model.scratch: expected a table [model.scratch]"),
        ("model.bas = 'x'\n" + ROWS, "1: model.bas: unknown key: did you mean 'base'?"),
        ("[model]\nbase = 'scratch'\n" + ROWS, "2: model.base: 'scratch' needs a table"),
        (ROWS + "[model.scratch]\nheads = 3", "4: model.scratch.heads: must divide hidden_size"),
        (ROWS + "[model.scratch]\nlayers = 0", "4: model.scratch.layers: must be above 0, not 0"),
        (
            ROWS + "[model.scratch]\ninitializer_range = 0",
            "4: model.scratch.initializer_range: must",
        ),
        (ROWS + "[loss.matryoshka]\ndims = []", "4: loss.matryoshka.dims: expected widths of 1"),
        (ROWS + "[loss.matryoshka]\ndims = 64", "4: loss.matryoshka.dims: expected a list, each a"),
        (ROWS + "[loss.matryoshka]\ndims = {a = 'b'}", "4: loss.matryoshka.dims: expected a list"),
        (ROWS + "[loss.matryoshka]\ndims = ['a']", "4: loss.matryoshka.dims: expected a whole"),
        (ROWS + "[loss.matryoshka]\ndims = [8, 8]", "4: loss.matryoshka.dims: a width comes twice"),
        (ROWS + "[loss.matryoshka]\ndims = [8]\nweights = [1, 2]", "5: loss.matryoshka.weights: "),
        (ROWS + "[loss.matryoshka]\nweights = [1]", "3: loss.matryoshka.dims: is missing"),
        (ROWS + "[verdict]", "3: verdict.path: is missing"),
        (
            ROWS + "[verdict]\npath = 'x'\nmeasure = 'ndgc@10'",
            "5: verdict.measure: unknown measure",
        ),
        (ROWS + "[lora]\ndropout = -1", "4: lora.dropout: must be 0 or more"),
        (ROWS + "[lora]\ndropout = 1", "4: lora.dropout: must be below 1"),
        (ROWS + "[training]\nmax_steps = 0", "4: training.max_steps: must be above 0, or -1"),
        (ROWS + "[training]\nmax_steps = -2", "4: training.max_steps: must be above 0, or -1"),
        (
            ROWS + "[training]\nbatch_sampler = 'group_by_label'",
            "4: training.batch_sampler: needs a label",
        ),
        ("seed = -1\n" + ROWS, "1: seed: must be 0 or more"),
        ("seed = 4294967296\n" + ROWS, "1: seed: must be below 4294967296"),
        ("sample = 2020-01-01\n" + ROWS, "1: sample: expected a whole number, found datetime"),
        ("name = 'a/b'\n" + ROWS, "1: name: 'a/b' cannot be the name of the model's folder"),
        ("name = '..'\n" + ROWS, "1: name: '..' cannot be the name"),
        ("seed = 1\nseed = 2\n" + ROWS, "2: not valid TOML: Cannot overwrite a value"),
        (ROWS + "\n[training\nfp16 = true", "4: not valid TOML: "),
        ("a = " + "[" * 5000, "not a recipe: lists or tables in each other without end"),
        (
            ROWS + "[training]\nload_best_model_at_end = true",
            "training.metric_for_best_model: is missing",
        ),
        (
            ROWS + "[training]\nload_best_model_at_end = true\nmetric_for_best_model = 'loss'",
            "4: training.load_best_model_at_end: needs a table [[evaluation]]",
        ),
    ],
)
def test_one_line_says_where_and_what(refused, text, told):
    assert told in refused(text)[: len(told) + 8]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"eval_strategy": "no"}, "load_best_model_at_end"),
        ({"save_strategy": "no"}, "load_best_model_at_end"),
        ({"save_strategy": "steps"}, "save_strategy"),
        ({"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 5}, "save_strategy"),
    ],
)
def test_the_best_checkpoint_must_have_been_measured(refused, settings, key):
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss"}
    table = {
        "data": [{"path": "a"}],
        "evaluation": [{"kind": "loss", "path": "b"}],
        "training": best | settings,
    }
    assert f"training.{key}: " in refused(tomli_w.dumps(table))


def test_a_file_that_is_none(tmp_path, file):
    with pytest.raises(NotFound, match=r"missing\.toml: no such recipe file"):
        read_recipe(tmp_path / "missing.toml")
    with pytest.raises(NotFound):
        read_recipe(tmp_path)
    file.write_bytes(b"\xff\xfea\x00")
    with pytest.raises(InputError, match="UTF-16"):
        read_recipe(file)


# Changes


def test_changes_come_on_top_and_are_of_the_type_that_is_wanted(read):
    found = read(
        ROWS + "[training]\nlearning_rate = 1e-3\n",
        "training.learning_rate=5e-5",
        "training.fp16 = true",
        "training.num_train_epochs=3",
        "loss.matryoshka.dims=[64, 32]",
        "model.base=scratch",
        "model.scratch.hidden_size=64",
        'name="a b"',
        "model.license=apache-2.0",
        "training.learning_rate=6e-5",
    )
    assert found.training == Training(learning_rate=6e-5, fp16=True, num_train_epochs=3.0)
    assert found.loss.matryoshka == Matryoshka((64, 32))
    assert found.model == Model("scratch", license="apache-2.0", scratch=Scratch(hidden_size=64))
    assert found.name == "a b"


@pytest.mark.parametrize(
    "change", ["learning_rate", "=3", ".x=3", "training..x=3", "data.path=x", "", "name.x=1"]
)
def test_a_change_that_cannot_be_made(read, change):
    with pytest.raises(UsageError, match=re.escape(repr(change))):
        read("name = 'n'\n" + ROWS, change)


def test_a_change_is_checked_like_the_file(refused):
    assert "training.fp17: unknown key: did you mean 'fp16'" in refused(ROWS, "training.fp17=true")
    assert "training.fp16: expected true or false, found 'yes'" in refused(
        ROWS, "training.fp16=yes"
    )
    assert "training: expected a table" in refused(ROWS, "training=3")
    deep = "training.learning_rate=" + "[" * 5000
    assert "training.learning_rate: expected a number" in refused(ROWS, deep)


# What makes it another run


MATTERS = [
    replace(FULL, seed=8),
    replace(FULL, sample=0),
    replace(FULL, data=FULL.data[:1]),
    replace(FULL, lora=None),
    replace(FULL, loss=replace(FULL.loss, scale=21.0)),
    replace(FULL, loss=replace(FULL.loss, matryoshka=Matryoshka((32, 16), (1.0, 0.6), 1))),
    replace(FULL, model=replace(FULL.model, rotate=False)),
    replace(FULL, model=replace(FULL.model, scratch=Scratch())),
    *(
        replace(FULL, training=replace(FULL.training, **{f.name: getattr(Training(), f.name)}))
        for f in dataclasses.fields(Training)
        if f.name not in ("logging_steps", "save_total_limit", "per_device_eval_batch_size", "fp16")
    ),
    replace(FULL, evaluation=FULL.evaluation[:1]),  # the best checkpoint is kept by it
]
DOES_NOT = [
    replace(FULL, name="other"),
    replace(FULL, verdict=None),
    replace(FULL, training=replace(FULL.training, logging_steps=6.0)),
    replace(FULL, training=replace(FULL.training, save_total_limit=9)),
    replace(FULL, training=replace(FULL.training, per_device_eval_batch_size=9)),
]


def test_the_digest_is_of_what_shapes_the_model():
    assert re.fullmatch("[0-9a-f]{64}", recipe_digest(FULL))
    found = [recipe_digest(recipe) for recipe in [FULL, *MATTERS]]
    assert len(set(found)) == len(found)
    assert {recipe_digest(recipe) for recipe in DOES_NOT} == {recipe_digest(FULL)}


def test_what_is_measured_matters_only_where_it_chooses_the_checkpoint():
    last = replace(FULL, training=replace(FULL.training, load_best_model_at_end=False))
    assert recipe_digest(replace(last, evaluation=())) == recipe_digest(last)
    assert recipe_digest(replace(FULL, evaluation=())) != recipe_digest(FULL)


# Junk

KEYS = st.sampled_from(
    ["data", "model", "loss", "training", "evaluation", "verdict", "lora", "seed", "name", "path"]
    + ["matryoshka", "scratch", "dims", "weights", "columns", "label", "rows", "kind", "heads"]
    + [f.name for f in dataclasses.fields(Training)]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**33) | st.floats() | st.text(max_size=4)
    | st.datetimes() | st.sampled_from(["steps", "loss", "scratch", "epoch", "mean"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def without_none(value):
    if isinstance(value, dict):
        return {key: without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_none(item) for item in value if item is not None]
    return value


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.booleans())
def test_junk_is_refused_in_one_line(tmp_path_factory, table, complete):
    if complete:
        table = {**table, "data": [{"path": "x"}]}
    text = tomli_w.dumps(without_none(table))
    file = tmp_path_factory.getbasetemp() / "junk.toml"
    file.write_text(text, encoding="utf-8")
    recipe, told = attempt(file)
    if recipe is None:
        assert "\n" not in told
        return
    numbers = [v for v in dataclasses.astuple(recipe.training) if isinstance(v, float)]
    assert all(map(math.isfinite, numbers))
    file.write_text(recipe_text(recipe), encoding="utf-8")
    assert read_recipe(file) == recipe


def attempt(file):
    try:
        return read_recipe(file), ""
    except SemsearchError as exc:
        return None, str(exc)


@given(st.text(max_size=60) | st.text("[]={}\"'\n.,#ab1-", max_size=40), st.text(max_size=12))
def test_any_text_and_any_change(tmp_path_factory, text, change):
    file = tmp_path_factory.getbasetemp() / "text.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(SemsearchError):
        read_recipe(file, [change, "zebra=1"])


def test_all_that_a_recipe_file_says_is_read():
    """No setting of a published file is lost on the way."""
    for path in RECIPES.glob("*.toml"):
        table, recipe = tomllib.loads(path.read_text(encoding="utf-8")), read_recipe(path)
        for key, value in table["training"].items():
            assert getattr(recipe.training, key) == value, (path.name, key)
