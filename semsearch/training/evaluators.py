"""What is measured while a model trains: sentence-transformers' evaluators, over one encoding.

The metrics and their names are the library's. Every text is encoded once for each measuring,
however many evaluators and Matryoshka widths look at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semsearch.corpus import BeirDataset
from semsearch.errors import InputError, UsageError
from semsearch.training.recipe import Evaluation, Recipe
from semsearch.training.rows import Rows, documents_of, read_data

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.evaluation import BaseEvaluator, SequentialEvaluator

_NEEDS = {"similarity": (2, True), "classification": (2, True), "triplets": (3, False)}


class OneEncoding:
    """A model that encodes a list of texts once and cuts the vectors to each width asked for.

    Cut vectors are those of ``SentenceTransformer.encode(truncate_dim=...)``: as they are, not
    brought to unit length again. Everything else is the model's own.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model
        self._made: dict[tuple[str, bool, tuple[str, ...]], Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode(self, texts: Sequence[str], **options: Any) -> Any:  # noqa: D102
        return self._encoded("encode", texts, options)

    def encode_query(self, texts: Sequence[str], **options: Any) -> Any:  # noqa: D102
        return self._encoded("encode_query", texts, options)

    def encode_document(self, texts: Sequence[str], **options: Any) -> Any:  # noqa: D102
        return self._encoded("encode_document", texts, options)

    def _encoded(self, way: str, texts: Sequence[str], options: dict[str, Any]) -> Any:
        width = options.pop("truncate_dim", None)
        key = (way, bool(options.get("convert_to_tensor")), tuple(texts))
        if key not in self._made:
            self._made[key] = getattr(self._model, way)(list(texts), **options)
        return self._made[key][:, :width]


def build_evaluator(
    recipe: Recipe, root: Path, width: int, *, bf16: bool
) -> tuple[SequentialEvaluator | None, dict[str, Rows]]:
    """One evaluator of all that the recipe measures, and by name the rows for the loss.

    ``width`` is the model's, ``bf16`` says that texts are encoded in it, as training does. Raises
    as ``read_data`` does.
    """
    dims = recipe.loss.matryoshka.dims if recipe.loss.matryoshka else (width,)
    found: list[BaseEvaluator] = []
    losses: dict[str, Rows] = {}
    for wanted in recipe.evaluation:
        if wanted.kind == "loss":
            rows = read_data(wanted, root)
            losses[rows.name] = rows
        else:
            found += _evaluators(wanted, root, sorted(dims, reverse=True), width, recipe)
    names = [getattr(one, "name", "") + type(one).__name__ for one in found]
    if len(set(names)) < len(names):
        raise UsageError("two tables [[evaluation]] have the same kind and name: name them apart")
    return (_all(found, bf16=bf16) if found else None), losses


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


def _evaluators(
    wanted: Evaluation, root: Path, dims: Sequence[int], width: int, recipe: Recipe
) -> list[BaseEvaluator]:
    cut = [None if dim == width and len(dims) == 1 else dim for dim in dims]
    batch = recipe.training.per_device_eval_batch_size
    sets: Any
    if wanted.kind == "retrieval":
        sets = _retrieval_sets(wanted, root, recipe.seed)
    else:
        needs, label = _NEEDS[wanted.kind]
        sets = read_data(wanted, root, needs=needs, label=label)
    found = [_evaluator(wanted, sets, dim, batch, root) for dim in cut]
    for one in found:  # the width is in the name: so the card has one table, a column for each
        one.get_config_dict = dict
    return found


def _evaluator(
    wanted: Evaluation, data: Any, dim: int | None, batch: int, root: Path
) -> BaseEvaluator:
    from sentence_transformers.sentence_transformer import evaluation

    name = wanted.name or (Path(wanted.path).name.split(".")[0] if dim is None else "")
    if dim is not None:
        name = f"{name}_dim_{dim}" if name else f"dim_{dim}"
    common: dict[str, Any] = {
        "name": name,
        "truncate_dim": dim,
        "batch_size": batch,
        "write_csv": False,
    }
    if wanted.kind == "retrieval":
        queries, corpus, relevant = data
        return evaluation.InformationRetrievalEvaluator(queries, corpus, relevant, **common)
    common["similarity_fn_names"] = list(wanted.similarities)
    first, second, *others = (data.column(n) for n in range(len(data.columns)))
    if wanted.kind == "similarity":
        return evaluation.EmbeddingSimilarityEvaluator(first, second, data.labels, **common)
    if wanted.kind == "triplets":
        return evaluation.TripletEvaluator(first, second, others[0], **common)
    if not set(data.labels) <= {0.0, 1.0}:
        raise InputError("classification needs labels that are 0 or 1", root / wanted.path)
    labels = [int(label) for label in data.labels]
    return evaluation.BinaryClassificationEvaluator(first, second, labels, **common)


def _retrieval_sets(
    wanted: Evaluation, root: Path, seed: int
) -> tuple[dict[str, str], dict[str, str], dict[str, set[str]]]:
    """Queries, corpus and relevant documents by id."""
    if not (root / wanted.path).is_dir():
        return _from_rows(read_data(wanted, root))
    dataset = BeirDataset.open(root / wanted.path, wanted.split)
    queries = {query.id: query.text for query in dataset.queries}
    relevant = {
        query: {document for document, grade in dataset.qrels[query].items() if grade > 0}
        for query in queries
    }
    corpus = {document.id: document.content for document in documents_of(dataset)}
    if wanted.corpus_size:
        corpus = _smaller(corpus, set().union(*relevant.values()), wanted.corpus_size, seed)
    return queries, corpus, relevant


def _from_rows(rows: Rows) -> tuple[dict[str, str], dict[str, str], dict[str, set[str]]]:
    """Anchors as queries, positives as corpus: equal texts are one, each with all its answers."""
    queries: dict[str, str] = {}
    corpus: dict[str, str] = {}
    relevant: dict[str, set[str]] = {}
    for anchor, positive, *_ in rows.texts:
        query = queries.setdefault(anchor, f"q{len(queries)}")
        document = corpus.setdefault(positive, f"d{len(corpus)}")
        relevant.setdefault(query, set()).add(document)
    return {id: text for text, id in queries.items()}, {i: t for t, i in corpus.items()}, relevant


def _smaller(corpus: dict[str, str], needed: set[str], others: int, seed: int) -> dict[str, str]:
    """The needed documents and ``others`` more, drawn by ``seed``, in their order."""
    import numpy as np

    rest = [id for id in corpus if id not in needed]
    count = min(others, len(rest))
    drawn = {rest[i] for i in np.random.default_rng(seed).choice(len(rest), count, replace=False)}
    return {id: text for id, text in corpus.items() if id in needed or id in drawn}
