"""Everything that a run needs before it begins: rows, the base, the checks, what is measured."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from semsearch.encoders.runtimes.torch import quiet
from semsearch.errors import MissingExtra, UsageError
from semsearch.training.arguments import settle_precision
from semsearch.training.base_model import open_base
from semsearch.training.checks import Finding, check_rows
from semsearch.training.evaluation_sets import held_out_texts, read_evaluations, sets_digest
from semsearch.training.evaluators import build_evaluator
from semsearch.training.lora import add_lora
from semsearch.training.losses import check_columns, fit_widths, needs_of
from semsearch.training.recipe import Recipe, Training
from semsearch.training.rows import Rows, read_data, sample
from semsearch.training.watching import Watch

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.evaluation import SequentialEvaluator

log = logging.getLogger("semsearch")


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that a run needs, before it begins.

    ``training`` is what the machine can do; ``measured`` a digest of what is measured on.
    """

    recipe: Recipe
    rows: tuple[Rows, ...]
    model: SentenceTransformer
    evaluator: SequentialEvaluator | None
    losses: dict[str, Rows]
    training: Training
    notices: tuple[str, ...]
    device: str
    findings: tuple[Finding, ...]
    measured: str


def require_extra() -> None:
    """Raise MissingExtra unless what training needs is installed."""
    from importlib.util import find_spec

    for package in ("accelerate", "datasets"):
        if find_spec(package) is None:
            raise MissingExtra(package, "train", "training")


def read_all(recipe: Recipe, root: Path) -> tuple[Rows, ...]:
    """The rows of all sources of a recipe, sampled as it says. Raises as ``read_data``."""
    needs, label = needs_of(recipe.loss)
    found = [read_data(data, root, needs=needs, label=label) for data in recipe.data]
    names = [rows.name for rows in found]
    if len(set(names)) < len(names):
        raise UsageError(f"two tables [[data]] have the same name: {', '.join(names)}")
    check_columns(recipe.loss, found)
    return tuple(sample(rows, recipe.sample, recipe.seed) for rows in found)


def prepare(
    recipe: Recipe, rows: Sequence[Rows], root: Path, device: str | None, watch: Watch
) -> Prepared:
    """Open the base, look at the data, and settle what this machine can do."""
    watch.stage("opening the base")
    model = open_base(recipe.model, rows, recipe.seed, device)
    add_lora(recipe, model)
    kind = model.device.type
    training, notices = settle_precision(recipe.training, kind)
    for notice in notices:
        log.warning(notice)
    width = model.get_embedding_dimension()
    recipe, narrowed = fit_widths(recipe, width)
    if narrowed:
        log.warning(narrowed)
        notices = (*notices, narrowed)
    if recipe.loss.matryoshka is not None and width not in recipe.loss.matryoshka.dims:
        log.warning("loss.matryoshka.dims lack the whole width of %d: it is not trained", width)
    sets = read_evaluations(recipe, root, rows)
    evaluator, losses = build_evaluator(recipe, sets, width, bf16=training.bf16)
    watch.stage("checking the rows")
    with quiet():
        kept, findings = check_rows(recipe, rows, model, held_out_texts(recipe, root, sets))
    return Prepared(
        recipe, kept, model, evaluator, losses, training, notices, kind, findings, sets_digest(sets)
    )
