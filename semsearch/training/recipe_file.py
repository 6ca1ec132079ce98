"""Reading a recipe from TOML, changing it from the command line, writing it resolved."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from semsearch.corpus.text import read_text
from semsearch.errors import InputError, MissingExtra, NotFound, UsageError
from semsearch.metrics import Measure
from semsearch.training.recipe import SCRATCH, Matryoshka, Recipe
from semsearch.training.tables import TableError, from_table, to_table

_HEADER = re.compile(r"\s*(\[\[?)([^\[\]]+)\]")
_SETTING = re.compile(r"\s*\"?([\w.-]+)\"?\s*=")
_NAME = re.compile(r"[^/\0\n]*")
_SEEDS = 2**32
"""How many seeds the libraries know."""


def read_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe; ``changes`` such as ``training.learning_rate=5e-5`` come on top.

    ``path`` may be the name of a published recipe, which comes with semsearch. Raises InputError
    with file and line: not TOML, an unknown key, a value of the wrong kind or out of range;
    UsageError for a change that cannot be made; NotFound.
    """
    path = _found(path)
    text = read_text(path)
    try:
        table = tomllib.loads(text)
    except ValueError as exc:  # TOMLDecodeError, or a number of thousands of digits
        at = re.search(r"at line (\d+)", str(exc))
        raise InputError(f"not valid TOML: {exc}", path, int(at[1]) if at else 0) from exc
    except RecursionError as exc:
        raise InputError("not a recipe: lists or tables in each other without end", path) from exc
    for change in changes:
        _change(table, change)
    try:
        recipe = from_table(Recipe, table)
        _check(recipe)
    except TableError as exc:
        raise InputError(str(exc), path, _line_of(text, exc)) from exc
    return replace(recipe, name=recipe.name or Path(path).name.removesuffix(".toml"))


def published_recipes() -> dict[str, Path]:
    """The recipes that come with semsearch, by name.

    An installed wheel carries them as ``semsearch/_data/recipes``; a checkout has them as
    ``data/recipes``.
    """
    package = Path(__file__).resolve().parents[1]
    places = [package / "_data" / "recipes", package.parent / "data" / "recipes"]
    files = next((found for place in places if (found := sorted(place.glob("*.toml")))), [])
    return {file.stem: file for file in files}


def _found(path: str | Path) -> Path:
    if Path(path).is_file():
        return Path(path)
    published = published_recipes()
    if str(path) not in published:
        names = ", ".join(published) or "none"
        raise NotFound(f"{path}: no such recipe file; published ones are {names}")
    return published[str(path)]


def recipe_text(recipe: Recipe) -> str:
    """The resolved recipe as TOML: every setting with its value. Raises MissingExtra."""
    try:
        import tomli_w
    except ImportError as exc:
        raise MissingExtra("tomli-w", "train", "printing a recipe") from exc
    return tomli_w.dumps(to_table(recipe))


def recipe_digest(recipe: Recipe) -> str:
    """SHA-256 (hexadecimal) of everything that shapes the trained model.

    How often it is logged is not part of it, nor what it is judged on; what is measured is where
    it decides which checkpoint is kept.
    """
    table = to_table(recipe)
    chosen_by = () if recipe.training.load_best_model_at_end else ("evaluation",)
    for key in ("name", "verdict", *chosen_by):
        table.pop(key, None)
    for key in ("logging_steps", "save_total_limit", "per_device_eval_batch_size"):
        del table["training"][key]
    return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()


def _change(table: dict[str, Any], change: str) -> None:
    name, equals, value = change.partition("=")
    *parents, key = [part.strip() for part in name.split(".")]
    if not equals or not key or not all(parents):
        raise UsageError(
            f"{change!r}: expected SECTION.KEY=VALUE, as in training.learning_rate=5e-5"
        )
    try:
        found = tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):
        found = value.strip()  # a text without its quotes
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UsageError(f"{change!r}: {parent!r} is not a table of the recipe")
    table[key] = found


def _line_of(text: str, problem: TableError) -> int:
    """The line that sets what is wrong, else that of its table, 0 where there is none.

    Of tables in a list the second is called ``data[2]``, as in messages.
    """
    wanted, table = problem.where + problem.key, problem.where.removesuffix(".")
    names = {wanted, wanted.replace("[1]", "")}
    tables = {table, table.replace("[1]", "")}
    seen: dict[str, int] = {}
    inside, found = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            inside = header[2].strip()
            seen[inside] = seen.get(inside, 0) + 1
            if seen[inside] > 1:
                inside = f"{inside}[{seen[inside]}]"
            here = inside
        elif setting := _SETTING.match(line):
            here = f"{inside}.{setting[1]}".removeprefix(".")
        else:
            continue
        if here in names:
            return number
        found = found or number * (here in tables)
    return found


def _check(recipe: Recipe) -> None:
    """What types cannot say. Raises TableError."""
    if not recipe.data:
        raise TableError("", "data", "names no rows to train on: add a table [[data]]")
    if recipe.name in (".", "..") or not _NAME.fullmatch(recipe.name):
        raise TableError("", "name", f"{recipe.name!r} cannot be the name of the model's folder")
    _check_numbers(recipe)
    _check_measure(recipe)
    training, matryoshka = recipe.training, recipe.loss.matryoshka
    if training.fp16 and training.bf16:
        raise TableError("training.", "fp16", "fp16 and bf16 exclude each other: choose one")
    if training.load_best_model_at_end:
        _check_best(recipe)
    _check_labels(recipe)
    if matryoshka is not None:
        _check_matryoshka(matryoshka)
    if recipe.model.base == SCRATCH and recipe.model.scratch is None:
        raise TableError("model.", "base", "'scratch' needs a table [model.scratch]")
    scratch = recipe.model.scratch
    if scratch is not None and scratch.hidden_size % scratch.heads:
        raise TableError("model.scratch.", "heads", "must divide hidden_size")


def _check_measure(recipe: Recipe) -> None:
    """The verdict comes last: hours are not to be lost to a measure that nobody knows."""
    if recipe.verdict is None:
        return
    try:
        Measure.parse(recipe.verdict.measure)
    except UsageError as exc:
        raise TableError("verdict.", "measure", str(exc)) from exc


def _check_labels(recipe: Recipe) -> None:
    """Labels are read where a loss needs them, or the recipe names them."""
    by_label = recipe.training.batch_sampler == "group_by_label"
    read = recipe.loss.name == "CoSENTLoss" or all(d.label is not None for d in recipe.data)
    if by_label and not read:
        raise TableError("training.", "batch_sampler", "needs a label in each table [[data]]")


def _check_matryoshka(matryoshka: Matryoshka) -> None:
    dims, weights = matryoshka.dims, matryoshka.weights
    if not dims or min(dims) < 1:
        raise TableError("loss.matryoshka.", "dims", "expected widths of 1 or more")
    if len(set(dims)) < len(dims):
        raise TableError("loss.matryoshka.", "dims", "a width comes twice")
    if weights and len(weights) != len(dims):
        raise TableError(
            "loss.matryoshka.", "weights", f"expected one for each of {len(dims)} dims"
        )


def _check_numbers(recipe: Recipe) -> None:
    training, loss, model = recipe.training, recipe.loss, recipe.model
    positive = {
        "training.": (
            training,
            "num_train_epochs per_device_train_batch_size per_device_eval_batch_size"
            " gradient_accumulation_steps learning_rate logging_steps eval_steps save_steps"
            " save_total_limit max_grad_norm",
        ),
        "loss.": (loss, "scale mini_batch_size margin"),
        "model.scratch.": (
            model.scratch,
            "hidden_size layers heads intermediate_size vocabulary initializer_range",
        ),
        "lora.": (recipe.lora, "r alpha"),
    }
    for where, (record, names) in positive.items():
        for name in names.split() if record is not None else ():
            if not getattr(record, name) > 0:
                raise TableError(where, name, f"must be above 0, not {getattr(record, name)}")
    least_zero = [
        ("model.", model, "max_length dense"),
        ("training.", training, "max_length warmup_steps weight_decay dataloader_num_workers"),
        ("lora.", recipe.lora, "dropout"),
        *(("evaluation.", one, "corpus_size") for one in recipe.evaluation),
        ("", recipe, "sample seed"),
    ]
    for where, holder, names in least_zero:
        for name in names.split() if holder is not None else ():
            if getattr(holder, name) < 0:
                raise TableError(where, name, "must be 0 or more")
    if training.max_steps < 1 and training.max_steps != -1:
        raise TableError("training.", "max_steps", "must be above 0, or -1 for whole epochs")
    if recipe.lora is not None and recipe.lora.dropout >= 1:
        raise TableError("lora.", "dropout", f"must be below 1, not {recipe.lora.dropout}")
    if recipe.seed >= _SEEDS:
        raise TableError("", "seed", f"must be below {_SEEDS}")


def _check_best(recipe: Recipe) -> None:
    training = recipe.training
    if not training.metric_for_best_model:
        raise TableError(
            "training.", "metric_for_best_model", "is missing: what is the best checkpoint best at?"
        )
    if "no" in (training.eval_strategy, training.save_strategy):
        raise TableError(
            "training.", "load_best_model_at_end", "needs eval_strategy and save_strategy"
        )
    if not recipe.evaluation:
        raise TableError("training.", "load_best_model_at_end", "needs a table [[evaluation]]")
    if training.eval_strategy != training.save_strategy or (
        training.eval_strategy == "steps" and training.eval_steps != training.save_steps
    ):
        raise TableError(
            "training.", "save_strategy", "must be that of evaluation, to keep the best checkpoint"
        )
