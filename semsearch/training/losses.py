"""The loss of a recipe, as sentence-transformers has it.

Sources: van den Oord, Li and Vinyals (2018) and Henderson et al. (2017) for ranking against the
other documents of a batch; Gao et al. (2021) for its cached form; Kusupati et al. (2022) for
Matryoshka; Su (2022) for CoSENT; Schroff, Kalenichenko and Philbin (2015) for triplets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from semsearch.errors import UsageError
from semsearch.training.recipe import Loss, Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import SentenceTransformer
    from torch.nn import Module

    from semsearch.training.rows import Rows

RANKING = ("MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss")
"""Losses for which the other rows of a batch are negatives."""


def needs_of(loss: Loss) -> tuple[int, bool]:
    """How many texts a row must have for a loss, and whether it must have a label."""
    return (3 if loss.name == "TripletLoss" else 2), loss.name == "CoSENTLoss"


def check_columns(loss: Loss, rows: Sequence[Rows]) -> None:
    """Raise UsageError for rows with more texts than the loss takes."""
    most = {"CoSENTLoss": 2, "TripletLoss": 3}.get(loss.name)
    for source in rows:
        if most is not None and len(source.columns) > most:
            found = ", ".join(source.columns)
            raise UsageError(f"{source.source}: {loss.name} takes {most} texts a row, not {found}")


def fit_widths(recipe: Recipe, width: int) -> tuple[Recipe, str]:
    """The recipe for a model of ``width`` dimensions, and a line if that changed it.

    Matryoshka widths that the model does not have are left out, and its own is put in: another base
    than the recipe's may be narrower.
    """
    matryoshka = recipe.loss.matryoshka
    if matryoshka is None or max(matryoshka.dims) <= width:
        return recipe, ""
    weights = matryoshka.weights or (1.0,) * len(matryoshka.dims)
    kept = {d: w for d, w in zip(matryoshka.dims, weights, strict=True) if d <= width}
    kept = {width: 1.0, **kept}
    fitted = replace(matryoshka, dims=tuple(kept), weights=tuple(kept.values()))
    wide = ", ".join(str(dim) for dim in matryoshka.dims if dim > width)
    told = f"the model has {width} dimensions: of loss.matryoshka.dims, {wide} are left out"
    return replace(recipe, loss=replace(recipe.loss, matryoshka=fitted)), told


def build_loss(loss: Loss, model: SentenceTransformer) -> Module:
    """The loss module for a model, which has the widths that it names (``fit_widths``)."""
    from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss

    found = _plain(loss, model)
    matryoshka = loss.matryoshka
    if matryoshka is None:
        return found
    wrapped: Module = MatryoshkaLoss(
        model,
        found,
        matryoshka_dims=list(matryoshka.dims),
        matryoshka_weights=list(matryoshka.weights) or None,
        n_dims_per_step=matryoshka.n_dims_per_step,
    )
    return wrapped


def _plain(loss: Loss, model: SentenceTransformer) -> Module:
    from sentence_transformers.sentence_transformer import losses

    options: dict[str, Any] = {"scale": loss.scale}
    if loss.name == "TripletLoss":
        cosine = losses.TripletDistanceMetric.COSINE
        options = {"distance_metric": cosine, "triplet_margin": loss.margin}
    elif loss.name in RANKING:
        options["gather_across_devices"] = loss.gather_across_devices
        if loss.symmetric:
            options["directions"] = ("query_to_doc", "doc_to_query")
            options["partition_mode"] = "per_direction"
    if loss.name == "CachedMultipleNegativesRankingLoss":
        options["mini_batch_size"] = loss.mini_batch_size
    found: Module = getattr(losses, loss.name)(model, **options)
    return found
