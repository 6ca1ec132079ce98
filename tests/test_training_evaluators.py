"""Evaluators: sentence-transformers' own values and names at every width, of one encoding."""

from collections import Counter
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from sentence_transformers.sentence_transformer import evaluation

from semsearch.errors import InputError, UsageError
from semsearch.training.base_model import open_base
from semsearch.training.evaluation_sets import read_evaluations
from semsearch.training.evaluators import OneEncoding, build_evaluator
from semsearch.training.recipe import Evaluation, Loss, Matryoshka, Recipe
from tests.training_sets import (
    CHAINS,
    easy_rows,
    made_rows,
    one_thread,
    scored_rows,
    small_recipe,
    write_easy,
)

FOUR: tuple[Literal["cosine", "dot", "euclidean", "manhattan"], ...]
FOUR = ("cosine", "dot", "euclidean", "manhattan")
EVERYTHING = (
    Evaluation("retrieval", "dev.jsonl", "ir"),
    Evaluation("similarity", "scored.jsonl", "sts", label="score", similarities=FOUR),
    Evaluation("classification", "scored.jsonl", "pairs", label="label", similarities=FOUR),
    Evaluation("triplets", "dev.jsonl", "three", similarities=FOUR),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_easy(tmp_path_factory.mktemp("evaluators"))


@pytest.fixture(scope="module")
def model():
    """Not normalised, so that the ways to compare differ; 48 dimensions."""
    rows = [(row["anchor"], row["positive"]) for row in easy_rows(60)]
    with one_thread():
        yield open_base(CHAINS["bert-dense"], [made_rows(*rows)], 3, "cpu")


def recipe_of(*wanted, dims=None):
    matryoshka = Matryoshka(dims) if dims else None
    return replace(small_recipe(), evaluation=wanted, loss=Loss(matryoshka=matryoshka))


def built(recipe: Recipe, folder, *, bf16=False):
    sets = read_evaluations(recipe, folder, [])
    return build_evaluator(recipe, sets, 48, bf16=bf16)


def measured(recipe, folder, model):
    evaluator, losses = built(recipe, folder)
    assert losses == {}
    assert evaluator is not None
    return evaluator(model)


def own(folder, dim, prefix=""):
    """sentence-transformers' evaluators of the same data, made from the files by hand."""
    dev, pairs = easy_rows(96 + 24)[96:], scored_rows(40)
    queries = {f"q{n}": row["anchor"] for n, row in enumerate(dev)}
    corpus = {f"d{n}": row["positive"] for n, row in enumerate(dev)}
    relevant = {f"q{n}": {f"d{n}"} for n in range(len(dev))}
    first, second = ([row[name] for row in pairs] for name in ("sentence1", "sentence2"))
    options = {"truncate_dim": dim, "write_csv": False}
    four = options | {"similarity_fn_names": list(FOUR)}
    scores, labels = [row["score"] for row in pairs], [row["label"] for row in pairs]
    texts = [[row[name] for row in dev] for name in ("anchor", "positive", "negative")]
    return [
        evaluation.InformationRetrievalEvaluator(
            queries, corpus, relevant, name=f"ir{prefix}", **options
        ),
        evaluation.EmbeddingSimilarityEvaluator(first, second, scores, name=f"sts{prefix}", **four),
        evaluation.BinaryClassificationEvaluator(
            first, second, labels, name=f"pairs{prefix}", **four
        ),
        evaluation.TripletEvaluator(*texts, name=f"three{prefix}", **four),
    ]


def test_the_values_are_those_of_sentence_transformers_at_every_width(folder, model):
    found = measured(recipe_of(*EVERYTHING, dims=(48, 32, 16, 4)), folder, model)
    expected: dict[str, float] = {}
    for dim in (48, 32, 16, 4):
        for evaluator in own(folder, dim, f"_dim_{dim}"):
            expected |= evaluator(model)
    assert found.keys() == expected.keys()
    assert len(found) > 4 * 60
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
    spread = {round(found[f"sts_dim_{dim}_spearman_cosine"], 4) for dim in (48, 32, 16, 4)}
    assert len(spread) == 4, "widths differ"


def test_without_matryoshka_only_the_whole_width(folder, model):
    found = measured(recipe_of(*EVERYTHING), folder, model)
    expected: dict[str, float] = {}
    for evaluator in own(folder, None):
        expected |= evaluator(model)
    assert found == pytest.approx(expected, abs=1e-6)
    alone = measured(recipe_of(*EVERYTHING, dims=(48,)), folder, model)
    assert alone == found, "the model's own width alone is no Matryoshka"


def test_names_are_those_of_the_original_cards(folder, model):
    found = measured(recipe_of(*(replace(one, name="x") for one in EVERYTHING)), folder, model)
    at = ("1", "3", "5", "10")
    wanted = {f"cosine_{kind}@{k}" for kind in ("accuracy", "precision", "recall") for k in at}
    wanted |= {"cosine_ndcg@10", "cosine_mrr@10", "cosine_map@100"}
    wanted |= {f"{kind}_{way}" for kind in ("pearson", "spearman") for way in (*FOUR, "max")}
    parts = ("accuracy", "accuracy_threshold", "f1", "f1_threshold", "precision", "recall", "ap")
    wanted |= {f"{way}_{part}" for way in (*FOUR, "max") for part in parts}
    assert {name.removeprefix("x_") for name in found} >= wanted


def test_one_similarity_has_no_max(folder, model):
    sts = replace(EVERYTHING[1], similarities=("cosine",))
    found = measured(recipe_of(sts), folder, model)
    assert found.keys() == {"sts_pearson_cosine", "sts_spearman_cosine"}


@pytest.mark.parametrize(
    ("name", "path", "dims", "expected"),
    [
        ("", "dev.jsonl", (48, 16), {"dim_48_cosine_ndcg@10", "dim_16_cosine_ndcg@10"}),
        ("own", "dev.jsonl", (16,), {"own_dim_16_cosine_ndcg@10"}),
        ("own", "dev.jsonl", None, {"own_cosine_ndcg@10"}),
        ("", "dev.jsonl", None, {"dev_cosine_ndcg@10"}),
    ],
)
def test_a_width_is_in_the_name(folder, model, name, path, dims, expected):
    found = measured(recipe_of(Evaluation("retrieval", path, name), dims=dims), folder, model)
    assert {key for key in found if key.endswith("ndcg@10")} == expected
    assert "sequential_score" not in found


class Counting:
    """A model that counts the texts that it is asked to encode, by the way of asking."""

    def __init__(self, model):
        self._model = model
        self.texts: Counter[str] = Counter()

    def __getattr__(self, name):
        found = getattr(self._model, name)
        if name not in ("encode", "encode_query", "encode_document"):
            return found

        def counting(texts, **options):
            self.texts[name] += len(texts)
            return found(texts, **options)

        return counting


def test_texts_are_encoded_once_for_all_widths(folder, model):
    counting = Counting(model)
    measured(recipe_of(*EVERYTHING, dims=(48, 32, 16, 4)), folder, counting)
    # triplets have the questions and answers of retrieval, and as many negatives; similarity
    # encodes 40 first and 40 second texts, classification all that differ
    assert counting.texts == {"encode_query": 24, "encode_document": 48, "encode": 2 * 40 + 80}


def test_each_measuring_encodes_again(folder, model):
    evaluator, _ = built(recipe_of(EVERYTHING[0], dims=(48, 16)), folder)
    assert evaluator is not None
    counting = Counting(model)
    first = evaluator(counting)
    second = evaluator(counting)
    assert counting.texts["encode_query"] == 2 * 24
    assert first == second


def test_cut_vectors_are_those_of_the_model(model):
    texts = [row["anchor"] for row in easy_rows(9)]
    one = OneEncoding(model)
    for dim in (48, 20, 5, None):
        for way in ("encode", "encode_query", "encode_document"):
            expected = getattr(model, way)(texts, truncate_dim=dim, show_progress_bar=False)
            found = getattr(one, way)(texts, truncate_dim=dim, show_progress_bar=False)
            np.testing.assert_array_equal(found, expected)
    tensors = one.encode(texts, truncate_dim=5, convert_to_tensor=True)
    assert tuple(tensors.shape) == (9, 5)
    assert one.similarity_fn_name == "cosine"
    assert one.device == model.device


def test_queries_and_documents_have_their_own_prompts(folder, model):
    texts = [row["anchor"] for row in easy_rows(6)]
    model.prompts = {"query": "bal bal ", "document": "lor "}
    try:
        one = OneEncoding(model)
        query, document = one.encode_query(texts), one.encode_document(texts)
        np.testing.assert_array_equal(query, model.encode_query(texts))
        np.testing.assert_array_equal(document, model.encode_document(texts))
        assert np.abs(query - document).max() > 1e-3
    finally:
        model.prompts = {"query": "", "document": ""}


# The loss, and what cannot be measured


def test_rows_for_the_loss_are_handed_on_by_name(folder):
    evaluator, losses = built(
        recipe_of(Evaluation("loss", "dev.jsonl"), Evaluation("loss", "train.jsonl", "seen")),
        folder,
    )
    assert evaluator is None
    assert {name: len(rows) for name, rows in losses.items()} == {"dev": 24, "seen": 96}


def test_two_of_one_name_are_refused(folder):
    for twice in (EVERYTHING[0], Evaluation("loss", "dev.jsonl")):
        with pytest.raises(UsageError, match="name them apart"):
            built(recipe_of(twice, twice), folder)
    unnamed = replace(EVERYTHING[0], name="")
    recipe = recipe_of(unnamed, replace(unnamed, path="train.jsonl"), dims=(16, 8))
    with pytest.raises(UsageError, match="name them apart"):
        built(recipe, folder)
    built(recipe_of(EVERYTHING[0], replace(EVERYTHING[3], name="ir")), folder)


def test_classes_are_0_and_1(folder):
    with pytest.raises(InputError, match=r"scored\.jsonl: classification needs labels that are 0"):
        built(recipe_of(replace(EVERYTHING[2], label="score")), folder)
    evaluator, _ = built(recipe_of(replace(EVERYTHING[2], label=None)), folder)
    assert evaluator is not None


def test_bf16_measures_what_training_computes(folder, model):
    recipe = recipe_of(replace(EVERYTHING[1], similarities=("cosine",)))
    (full, _), (reduced, _) = built(recipe, folder), built(recipe, folder, bf16=True)
    assert full is not None
    assert reduced is not None
    first, second = full(model), reduced(model)
    assert first.keys() == second.keys()
    assert second == pytest.approx(first, abs=0.05)
    assert second["sts_pearson_cosine"] != first["sts_pearson_cosine"]
