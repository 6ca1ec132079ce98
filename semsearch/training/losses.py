"""The loss of a recipe, as sentence-transformers has it.

Sources: van den Oord, Li and Vinyals (2018) and Henderson et al. (2017) for ranking against the
other documents of a batch; Gao et al. (2021) for its cached form; Kusupati et al. (2022) for
Matryoshka; Su (2022) for CoSENT; Schroff, Kalenichenko and Philbin (2015) for triplets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from semsearch.errors import UsageError
from semsearch.training.recipe import Loss

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import SentenceTransformer
    from torch import nn

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


def build_loss(loss: Loss, model: SentenceTransformer) -> nn.Module:
    """The loss module for a model. Raises UsageError for widths that the model does not have."""
    from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss

    found = _plain(loss, model)
    matryoshka = loss.matryoshka
    if matryoshka is None:
        return found
    width = model.get_embedding_dimension()
    wide = [dim for dim in matryoshka.dims if dim > width]
    if wide:
        raise UsageError(
            f"loss.matryoshka.dims: the model has {width} dimensions, so {wide[0]} cannot be trained"
            f" (choose from {width} down)"
        )
    return MatryoshkaLoss(
        model,
        found,
        matryoshka_dims=list(matryoshka.dims),
        matryoshka_weights=list(matryoshka.weights) or None,
        n_dims_per_step=matryoshka.n_dims_per_step,
    )


def _plain(loss: Loss, model: SentenceTransformer) -> nn.Module:
    from sentence_transformers.sentence_transformer import losses

    if loss.name == "CoSENTLoss":
        return losses.CoSENTLoss(model, scale=loss.scale)
    if loss.name == "TripletLoss":
        cosine = losses.TripletDistanceMetric.COSINE
        return losses.TripletLoss(model, distance_metric=cosine, triplet_margin=loss.margin)
    options: dict[str, Any] = {
        "scale": loss.scale,
        "gather_across_devices": loss.gather_across_devices,
    }
    if loss.symmetric:
        options["directions"] = ("query_to_doc", "doc_to_query")
        options["partition_mode"] = "per_direction"
    if loss.name == "CachedMultipleNegativesRankingLoss":
        size = loss.mini_batch_size
        return losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=size, **options)
    return losses.MultipleNegativesRankingLoss(model, **options)
