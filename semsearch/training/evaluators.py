"""What is measured while a model trains: sentence-transformers' evaluators, over one encoding.

The metrics and their names are the library's. Every list of texts is encoded once for each
measuring, however many evaluators and Matryoshka widths look at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semsearch.errors import InputError, ModelError, UsageError
from semsearch.training.evaluation_sets import EvaluationSet
from semsearch.training.recipe import Recipe
from semsearch.training.rows import Rows

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.evaluation import BaseEvaluator, SequentialEvaluator
    from torch import Tensor


DIVERGED = (
    "training diverged, and the weights are no numbers any more: lower training.learning_rate, and"
    " begin again with --fresh"
)

_WAYS = ("encode", "encode_query", "encode_document")


class OneEncoding:
    """A model that encodes a list of texts once and cuts the vectors to each width asked for.

    Cut vectors are those of ``SentenceTransformer.encode(truncate_dim=...)``: as they are, not
    brought to unit length again. Everything else is the model's own. Raises ModelError for vectors
    that are no numbers.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model
        self._made: dict[tuple[str, tuple[str, ...]], Tensor] = {}

    def __getattr__(self, name: str) -> Any:
        return partial(self._encoded, name) if name in _WAYS else getattr(self._model, name)

    def _encoded(self, way: str, texts: Sequence[str], **options: Any) -> Any:
        width = options.pop("truncate_dim", None)
        wants_tensor = options.pop("convert_to_tensor", False)
        key = (way, tuple(texts))
        if key not in self._made:
            made = getattr(self._model, way)(list(texts), **options, convert_to_tensor=True)
            if not bool(made.isfinite().all()):  # on which some evaluators fail, others do not
                raise ModelError(DIVERGED)
            self._made[key] = made
        found = self._made[key][:, :width]
        return found if wants_tensor else found.float().cpu().numpy()


def build_evaluator(
    recipe: Recipe, sets: Sequence[EvaluationSet], width: int, *, bf16: bool
) -> tuple[SequentialEvaluator | None, dict[str, Rows]]:
    """One evaluator of all that the recipe measures, and by name the rows for the loss.

    ``width`` is the model's, ``bf16`` says that texts are encoded in it, as training does. Raises
    UsageError for two evaluations of one name, InputError for labels that are neither 0 nor 1.
    """
    dims = recipe.loss.matryoshka.dims if recipe.loss.matryoshka else (width,)
    cut = [None] if tuple(dims) == (width,) else sorted(dims, reverse=True)
    batch = recipe.training.per_device_eval_batch_size
    found = [
        _evaluator(one, dim, batch) for one in sets if one.wanted.kind != "loss" for dim in cut
    ]
    names = [one.name + type(one).__name__ for one in found]
    losses = [one.rows for one in sets if one.wanted.kind == "loss" and one.rows is not None]
    names += [f"loss {rows.name}" for rows in losses]
    if len(set(names)) < len(names):
        raise UsageError("two tables [[evaluation]] have the same kind and name: name them apart")
    return (_all(found, bf16=bf16) if found else None), {rows.name: rows for rows in losses}


def _all(evaluators: list[BaseEvaluator], *, bf16: bool) -> SequentialEvaluator:
    import torch
    from sentence_transformers.base.evaluation import SequentialEvaluator

    class AllEvaluators(SequentialEvaluator):  # type: ignore[misc,unused-ignore] # types not read
        """Runs its evaluators over one encoding of each list of texts."""

        def __call__(self, model: Any, *arguments: Any, **options: Any) -> dict[str, float]:
            computing: AbstractContextManager[Any] = (
                torch.autocast(model.device.type, torch.bfloat16) if bf16 else nullcontext()
            )
            with computing:
                found: dict[str, float] = super().__call__(
                    OneEncoding(model), *arguments, **options
                )
            return {name: value for name, value in found.items() if name != "sequential_score"}

    return AllEvaluators(evaluators)


def _evaluator(data: EvaluationSet, dim: int | None, batch: int) -> BaseEvaluator:
    from sentence_transformers.sentence_transformer import evaluation

    wanted = data.wanted
    name = wanted.name or (Path(wanted.path).name.split(".")[0] if dim is None else "")
    if dim is not None:
        name = f"{name}_dim_{dim}" if name else f"dim_{dim}"
    common: dict[str, Any] = {
        "name": name,
        "truncate_dim": dim,
        "batch_size": batch,
        "write_csv": False,
    }
    rows = data.rows
    if rows is None:
        found = evaluation.InformationRetrievalEvaluator(
            data.queries, data.corpus, data.relevant, **common
        )
    else:
        common["similarity_fn_names"] = list(wanted.similarities)
        columns = [rows.column(n) for n in range(len(rows.columns))]
        if wanted.kind == "similarity":
            found = evaluation.EmbeddingSimilarityEvaluator(*columns[:2], rows.labels, **common)
        elif wanted.kind == "triplets":
            found = evaluation.TripletEvaluator(*columns[:3], **common)
        else:
            labels = _zero_or_one(rows)
            found = evaluation.BinaryClassificationEvaluator(*columns[:2], labels, **common)
    # The width is in the name: so the card has one table, a column for each.
    found.get_config_dict = dict
    return found


def _zero_or_one(rows: Rows) -> list[int]:
    labels = rows.labels or []
    if not set(labels) <= {0.0, 1.0}:
        raise InputError("classification needs labels that are 0 or 1", rows.source)
    return [int(label) for label in labels]
