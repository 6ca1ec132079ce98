"""Losses: the formulas of their papers in NumPy, on embeddings of a small model in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from semsearch.errors import UsageError
from semsearch.training.base_model import open_base
from semsearch.training.losses import build_loss, check_columns, fit_widths, needs_of
from semsearch.training.recipe import Data, Loss, LossName, Matryoshka, Recipe
from tests.training_sets import CHAINS, easy_rows, made_rows, one_thread, scored_rows

BATCH = 12
MNRL: LossName = "MultipleNegativesRankingLoss"
CACHED: LossName = "CachedMultipleNegativesRankingLoss"


@pytest.fixture(scope="module", params=["bert-dense", "mpnet"])
def model(request):
    """A small model in float64, without dropout; its vectors have length 1 or they have not."""
    rows = [(row["anchor"], row["positive"]) for row in easy_rows(60)]
    with one_thread():
        yield open_base(CHAINS[request.param], [made_rows(*rows)], 3, "cpu").double().eval()


@pytest.fixture(scope="module")
def columns():
    """Texts of a batch: anchors, positives, negatives and more negatives."""
    rows, more = easy_rows(BATCH, seed=5), easy_rows(BATCH, seed=6)
    return [
        [row["anchor"] for row in rows],
        [row["positive"] for row in rows],
        [row["negative"] for row in rows],
        [row["negative"] for row in more],
    ]


def computed(loss, model, columns, labels=None):
    """The value of a loss on a batch, and what it adds to each weight's gradient."""
    module = build_loss(loss, model)
    features = [model.preprocess(texts) for texts in columns]
    model.zero_grad()
    value = module(features, None if labels is None else torch.tensor(labels))
    value.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return float(value.detach()), gradients


def embedded(model, columns):
    """Embeddings (texts, width) of each column, float64."""
    with torch.no_grad():
        found = [model(model.preprocess(texts))["sentence_embedding"].numpy() for texts in columns]
    assert all(rows.dtype == np.float64 for rows in found)
    return found


def cosines(rows, others):
    lengths = np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(others, axis=1)
    return rows @ others.T / lengths


def cross_entropy(scores):
    """The mean of -log softmax at the diagonal: row n should choose column n."""
    chosen = scores[np.arange(len(scores)), np.arange(len(scores))]
    return np.mean(np.log(np.exp(scores).sum(axis=1)) - chosen)


def ranking(columns, scale=20.0):
    """Van den Oord et al. (2018), eq. 4: the positives and all negatives of the batch compete."""
    anchors, *documents = columns
    return cross_entropy(scale * cosines(anchors, np.concatenate(documents)))


def symmetric(columns, scale=20.0):
    """Günther et al. (2024): the mean of both directions; the way back has no hard negatives."""
    anchors, positives = columns[:2]
    back = cross_entropy(scale * cosines(positives, anchors))
    return (ranking(columns, scale) + back) / 2


@pytest.mark.parametrize("texts", [2, 3, 4])
@pytest.mark.parametrize("scale", [20.0, 1.0, 50.0])
def test_ranking_against_the_rest_of_the_batch(model, columns, texts, scale):
    value, _ = computed(Loss(scale=scale), model, columns[:texts])
    assert value == pytest.approx(ranking(embedded(model, columns[:texts]), scale), abs=1e-9)


@pytest.mark.parametrize("texts", [2, 4])
@pytest.mark.parametrize("name", [MNRL, CACHED])
def test_ranking_in_both_directions(model, columns, texts, name):
    loss = Loss(name, symmetric=True, mini_batch_size=5)
    value, _ = computed(loss, model, columns[:texts])
    rows = embedded(model, columns[:texts])
    assert value == pytest.approx(symmetric(rows), abs=1e-9)
    assert value != pytest.approx(ranking(rows), abs=1e-3)


@pytest.mark.parametrize("size", [1, 5, 12, 32])
@pytest.mark.parametrize("texts", [2, 4])
def test_the_cached_loss_is_the_same_whatever_its_mini_batch(model, columns, size, texts):
    value, gradients = computed(Loss(MNRL), model, columns[:texts])
    found, others = computed(Loss(CACHED, mini_batch_size=size), model, columns[:texts])
    assert found == pytest.approx(value, abs=1e-12)
    assert found == pytest.approx(ranking(embedded(model, columns[:texts])), abs=1e-9)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-9, atol=1e-12)
    assert sum(float(gradient.abs().sum()) for gradient in gradients.values()) > 1


@pytest.mark.parametrize("name", [MNRL, CACHED])
@pytest.mark.parametrize(
    ("dims", "weights"), [((32, 16, 8), ()), ((8, 32), (0.5, 2.0)), ((16,), (3.0,))]
)
def test_matryoshka_sums_the_weighted_losses_of_cut_vectors(model, columns, name, dims, weights):
    """Kusupati et al. (2022), eq. 1, over the ranking loss."""
    loss = Loss(name, matryoshka=Matryoshka(dims, weights), mini_batch_size=5)
    value, _ = computed(loss, model, columns[:3])
    rows = embedded(model, columns[:3])
    expected = sum(
        weight * ranking([column[:, :dim] for column in rows])
        for dim, weight in zip(dims, weights or (1.0,) * len(dims), strict=True)
    )
    assert value == pytest.approx(expected, abs=1e-6)


def test_matryoshka_over_other_losses(model, columns):
    rows, dims = embedded(model, columns[:3]), (16, 8)
    loss = Loss("TripletLoss", matryoshka=Matryoshka(dims, (1.0, 4.0)))
    value, _ = computed(loss, model, columns[:3])
    small = [triplets([column[:, :dim] for column in rows]) for dim in dims]
    assert value == pytest.approx(small[0] + 4 * small[1], abs=1e-6)


def test_some_widths_are_drawn_for_each_step(model, columns):
    dims = (32, 16, 8)
    rows = embedded(model, columns[:2])
    each = {dim: ranking([column[:, :dim] for column in rows]) for dim in dims}
    module = build_loss(Loss(matryoshka=Matryoshka(dims, n_dims_per_step=1)), model)
    features = [model.preprocess(texts) for texts in columns[:2]]
    with torch.no_grad():
        found = [float(module(features, None)) for _ in range(40)]
    nearest = [min(dims, key=lambda dim: abs(each[dim] - value)) for value in found]
    assert set(nearest) == set(dims)
    for dim, value in zip(nearest, found, strict=True):
        assert value == pytest.approx(each[dim], abs=1e-6)


def cosent(columns, labels, scale=20.0):
    """Su (2022): log(1 + the sum of e^(s(cos j - cos i)) over pairs where i is to be above j)."""
    cosine = np.diag(cosines(*columns))
    total = sum(
        np.exp(scale * (cosine[j] - cosine[i]))
        for i in range(len(labels))
        for j in range(len(labels))
        if labels[i] > labels[j]
    )
    return np.log(1 + total)


@pytest.mark.parametrize("scale", [20.0, 5.0])
def test_cosent_orders_pairs_by_their_scores(model, scale):
    pairs = scored_rows(BATCH)
    columns = [[row[name] for row in pairs] for name in ("sentence1", "sentence2")]
    labels = [row["score"] for row in pairs]
    assert len(set(labels)) == 4, "some are equal"
    value, _ = computed(Loss("CoSENTLoss", scale=scale), model, columns, labels)
    assert value == pytest.approx(cosent(embedded(model, columns), labels, scale), abs=1e-6)


def triplets(columns, margin=0.5):
    """Schroff et al. (2015), eq. 3, with the cosine distance: [d(a, p) - d(a, n) + margin]+."""
    anchors, positives, negatives = columns
    near = 1 - np.diag(cosines(anchors, positives))
    far = 1 - np.diag(cosines(anchors, negatives))
    return np.maximum(near - far + margin, 0).mean()


@pytest.mark.parametrize("margin", [0.5, 0.01, 2.0])
def test_triplets_with_a_margin(model, columns, margin):
    value, _ = computed(Loss("TripletLoss", margin=margin), model, columns[:3])
    assert value == pytest.approx(triplets(embedded(model, columns[:3]), margin), abs=1e-6)


def test_float32_says_the_same(model, columns):
    single = model.float()
    try:
        value, _ = computed(Loss(matryoshka=Matryoshka((32, 8))), single, columns[:2])
    finally:
        model.double()
    rows = embedded(model, columns[:2])
    expected = sum(ranking([column[:, :dim] for column in rows]) for dim in (32, 8))
    assert value == pytest.approx(expected, abs=1e-4)


# What rows a loss takes, and widths


def test_what_a_loss_needs():
    assert needs_of(Loss(MNRL)) == (2, False)
    assert needs_of(Loss(CACHED)) == (2, False)
    assert needs_of(Loss("TripletLoss")) == (3, False)
    assert needs_of(Loss("CoSENTLoss")) == (2, True)


def test_more_texts_than_a_loss_takes():
    three, four = made_rows(("a", "b", "c")), made_rows(("a", "b", "c", "d"))
    check_columns(Loss(MNRL), [three, four])
    check_columns(Loss("TripletLoss"), [three])
    with pytest.raises(UsageError, match=r"^made\.jsonl: CoSENTLoss takes 2 texts a row, not anch"):
        check_columns(Loss("CoSENTLoss"), [three])
    with pytest.raises(UsageError, match="TripletLoss takes 3 texts a row"):
        check_columns(Loss("TripletLoss"), [three, four])


def test_widths_that_a_model_does_not_have():
    recipe = Recipe((Data("x"),), loss=Loss(matryoshka=Matryoshka((768, 512, 64, 32))))
    assert fit_widths(recipe, 768) == (recipe, "")
    assert fit_widths(recipe, 1024) == (recipe, "")
    assert fit_widths(replace(recipe, loss=Loss()), 32) == (replace(recipe, loss=Loss()), "")
    fitted, told = fit_widths(recipe, 384)
    assert fitted.loss.matryoshka == Matryoshka((384, 64, 32), (1.0, 1.0, 1.0))
    assert told == "the model has 384 dimensions: of loss.matryoshka.dims, 768, 512 are left out"
    weighted = replace(recipe, loss=Loss(matryoshka=Matryoshka((768, 64, 32), (1.0, 0.5, 0.2))))
    fitted, _ = fit_widths(weighted, 64)
    assert fitted.loss.matryoshka == Matryoshka((64, 32), (0.5, 0.2))
    assert fit_widths(weighted, 16)[0].loss.matryoshka == Matryoshka((16,), (1.0,))
