"""Training: models of each architecture learn, are saved and served; seeds, best checkpoints."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from semsearch.cli.main import cli
from semsearch.collection.reader import Reader
from semsearch.encoders import open_encoder
from semsearch.errors import InputError, UsageError
from semsearch.training import run as run_module
from semsearch.training.base_model import open_base
from semsearch.training.recipe import (
    Data,
    Evaluation,
    Lora,
    Loss,
    Matryoshka,
    Model,
)
from tests import models
from tests.training_sets import (
    CHAINS,
    MODEL,
    PAIRS,
    QUICK,
    SMALL,
    easy_rows,
    one_thread,
    plain_model,
    same,
    small_recipe,
    trained,
    unit,
    weights,
    write_easy,
    write_rows,
)


@pytest.fixture(scope="module", autouse=True)
def threads():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_easy(tmp_path_factory.mktemp("training"), train=192)


# Architectures

ROTATED = {"mpnet-rotated": replace(CHAINS["mpnet"], rotate=True)}
XLM = {"xlm-roberta": replace(MODEL, scratch=replace(SMALL, architecture="xlm-roberta"))}
KINDS = CHAINS | ROTATED | XLM
MODULES = {
    "mpnet": ["Transformer", "Pooling", "Normalize"],
    "deberta": ["Transformer", "Pooling"],
    "bert-cls": ["Transformer", "Pooling", "Normalize"],
    "bert-unigram": ["Transformer", "Pooling"],
    "bert-dense": ["Transformer", "Pooling", "Dense"],
    "mpnet-rotated": ["Transformer", "Pooling", "Dense", "Normalize"],
    "xlm-roberta": ["Transformer", "Pooling"],
}
CLASSES = {
    "mpnet": "MPNetModel", "mpnet-rotated": "MPNetModel", "deberta": "DebertaV2Model",
    "bert-cls": "BertModel", "bert-unigram": "BertModel", "bert-dense": "BertModel",
    "xlm-roberta": "XLMRobertaModel",
}  # fmt: skip


@pytest.fixture(scope="module")
def learned(root):
    """The run of a kind of model, each trained once."""
    made = {}

    def of(kind):
        if kind not in made:
            model = KINDS[kind]
            width = model.dense or 32
            recipe = small_recipe(model, **QUICK | {"num_train_epochs": 8.0})
            recipe = replace(recipe, loss=Loss(matryoshka=Matryoshka((width, 16))))
            made[kind] = trained(recipe, root, root / "models" / kind)
        return made[kind]

    return of


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_from_nothing_improves(learned, kind):
    found = learned(kind)
    width = KINDS[kind].dense or 32
    for dim in (width, 16):
        name = f"dev_dim_{dim}_cosine_ndcg@10"
        least = 0.1 if kind == "bert-cls" else 0.5  # one layer: its first token learns slowly
        assert found.after[name] > found.before[name] + least
        assert 0 < found.before[name] < 0.6
    assert (found.steps, found.rows, found.best_step, found.resumed_from) == (96, 192, None, 0)
    assert not found.already


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_chain_of_modules_that_was_asked_for(learned, kind):
    folder, wanted = learned(kind).folder, KINDS[kind]
    model = plain_model(folder)
    assert [type(module).__name__ for module in model] == MODULES[kind]
    assert type(model[0].auto_model).__name__ == CLASSES[kind]
    assert model[1].pooling_mode == wanted.pooling
    assert model.max_seq_length == 16
    assert model.similarity_fn_name == "cosine"
    assert model.get_embedding_dimension() == (wanted.dense or 32)
    assert wanted.scratch is not None
    lower = model.tokenizer("BAL lor")["input_ids"] == model.tokenizer("bal LOR")["input_ids"]
    assert lower == wanted.scratch.lower_case
    config = model[0].auto_model.config
    assert (config.num_hidden_layers, config.num_attention_heads) == (1, 2)
    if wanted.dense:
        assert (model[2].in_features, model[2].out_features) == (32, 48)
        assert model[2].linear.bias is not None
        assert isinstance(model[2].activation_function, torch.nn.Identity)


@pytest.mark.parametrize("kind", KINDS)
def test_both_runtimes_and_the_index_hold_its_vectors(learned, kind, tmp_path):
    folder = learned(kind).folder
    texts = [row[name] for row in easy_rows(12, seed=9) for name in ("anchor", "positive")]
    texts.append("bal " * 40)  # cut at 16 tokens
    with models.calm():
        expected = unit(plain_model(folder).encode(texts, show_progress_bar=False))
    for runtime in ("openvino", "torch"):
        encoder = open_encoder(folder, runtime=runtime, precision="float32")
        np.testing.assert_allclose(encoder.encode_documents(texts).vectors, expected, atol=1e-5)
        assert (encoder.runtime, encoder.max_length) == (runtime, 16)
        assert encoder.matryoshka_dims == (KINDS[kind].dense or 32, 16)
    write_rows(tmp_path / "corpus.jsonl", [{"_id": str(n), "text": t} for n, t in enumerate(texts)])
    index = tmp_path / "idx"
    command = ["index", str(tmp_path / "corpus.jsonl"), "-i", str(index), "-m", str(folder)]
    command += ["--long-text", "truncate"]
    assert CliRunner().invoke(cli, command).exit_code == 0
    with Reader(index) as reader:
        snapshot = reader.snapshot()
        assert snapshot.encoder is not None
        vids = snapshot.rows.ids
        owners = reader.documents_of(vids.tolist())
        ids = [int(owners[vid].document.id) for vid in vids.tolist()]
        stored = snapshot.rows.take(snapshot.ordinals(vids))
        assert json.loads(snapshot.encoder.matryoshka_dims) == list(encoder.matryoshka_dims)
    assert sorted(ids) == list(range(len(texts)))
    # stored as float16, computed as this machine computes fastest
    assert (unit(stored) * expected[ids]).sum(axis=1).min() > 0.9999
    np.testing.assert_allclose(unit(stored), expected[ids], atol=5e-3)


def test_a_rotation_is_before_normalize_and_trained(learned):
    from semsearch.training.rows import read_data

    folder = learned("mpnet-rotated").folder
    matrix = plain_model(folder)[2].linear.weight.detach().numpy()
    rows = [read_data(Data("train.jsonl", columns=PAIRS), folder.parents[1])]
    base = open_base(KINDS["mpnet-rotated"], rows, 42, "cpu")
    first = base[2].linear.weight.detach().numpy()
    np.testing.assert_allclose(first @ first.T, np.eye(32), atol=1e-5)
    assert np.abs(matrix - first).max() > 1e-3
    assert plain_model(folder)[2].linear.bias is None


# Seeds


def test_one_seed_gives_one_model(root, tmp_path):
    recipe = small_recipe(**QUICK)
    first, again = (trained(recipe, root, tmp_path / name) for name in ("first", "again"))
    other = trained(replace(recipe, seed=43), root, tmp_path / "other")
    assert same(first.folder, again.folder)
    assert (first.before, first.after) == (again.before, again.after)
    assert not same(first.folder, other.folder)
    assert first.before != other.before


def test_the_order_of_rows_is_the_seeds_too(tmp_path, root):
    """Weights start from a folder, so that only order and dropout differ."""
    base = models.build("bert-cls", tmp_path)
    recipe = small_recipe(Model(str(base)), **QUICK)
    recipe = replace(recipe, loss=Loss())
    runs = [
        trained(replace(recipe, seed=seed), root, tmp_path / f"{number}")
        for number, seed in enumerate((1, 1, 2))
    ]
    assert same(runs[0].folder, runs[1].folder)
    assert not same(runs[0].folder, runs[2].folder)
    assert runs[0].before == runs[2].before


# The folder


def test_a_finished_run_is_not_repeated(root, tmp_path):
    recipe = small_recipe(**QUICK)
    output = tmp_path / "made"
    first = trained(recipe, root, output)
    stamps = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    again = trained(replace(recipe, name="called otherwise", verdict=None), root, output)
    assert again.already
    assert (again.before, again.after, again.steps) == (first.before, first.after, first.steps)
    assert again.findings == first.findings
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == stamps
    assert [path.name for path in tmp_path.iterdir()] == ["made"], "no work is left"


def test_another_recipe_needs_another_folder_or_fresh(root, tmp_path):
    recipe, output = small_recipe(**QUICK), tmp_path / "made"
    first = trained(recipe, root, output)
    kept = weights(output)
    other = replace(recipe, seed=7)
    with pytest.raises(UsageError, match="holds a model of another recipe, other rows or another"):
        trained(other, root, output)
    assert weights(output).keys() == kept.keys()
    found = trained(other, root, output, fresh=True)
    assert not found.already
    assert found.before != first.before
    assert trained(other, root, output).already


def test_other_rows_are_another_run(tmp_path):
    root = write_easy(tmp_path / "data", train=40)
    recipe, output = small_recipe(**QUICK), tmp_path / "made"
    trained(recipe, root, output)
    write_easy(root, train=39)
    with pytest.raises(UsageError, match="other rows"):
        trained(recipe, root, output)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_that_is_not_ours_is_never_replaced(root, tmp_path, fresh):
    precious = write_rows(tmp_path / "home" / "precious.jsonl", [{"a": 1}])
    with pytest.raises(UsageError, match="exists and was not made by training"):
        trained(small_recipe(**QUICK), root, precious.parent, fresh=fresh)
    assert precious.is_file()
    beside = write_rows(tmp_path / "made.work" / "precious.jsonl", [{"a": 1}])
    with pytest.raises(UsageError, match=r"made\.work: exists and was not made by training"):
        trained(small_recipe(**QUICK), root, tmp_path / "made", fresh=fresh)
    assert beside.is_file()


def test_an_unfinished_run_of_another_recipe_is_in_the_way(root, tmp_path, monkeypatch):
    recipe, output = small_recipe(**QUICK | {"save_strategy": "epoch"}), tmp_path / "made"

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_write", stop)
        with pytest.raises(KeyboardInterrupt):
            trained(recipe, root, output)
    assert not output.exists()
    with pytest.raises(UsageError, match=r"made\.work: holds the unfinished run of another recipe"):
        trained(replace(recipe, seed=7), root, output)
    assert trained(replace(recipe, seed=7), root, output, fresh=True).steps == 12
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


# The best checkpoint


def test_the_best_checkpoint_is_kept_whichever_was_last(root, tmp_path):
    """The rate is far too high from the second epoch on: what was good is destroyed."""
    settings: dict[str, Any] = {
        "num_train_epochs": 4.0, "load_best_model_at_end": True, "save_total_limit": 1,
        "metric_for_best_model": "dev_dim_32_cosine_ndcg@10", "learning_rate": 3e-3,
    }  # fmt: skip
    recipe = small_recipe(CHAINS["mpnet"], **settings)
    seen = []

    class Ruining:
        """Spoils the weights after the third epoch, so that the last is not the best."""

        def stage(self, name):
            pass

        def step(self, done, total):
            if done == 3 * total // 4 + 1:
                with torch.no_grad():
                    for parameter in trainers[0].model.parameters():
                        parameter.add_(torch.randn_like(parameter))

        def metrics(self, step, found):
            if "dev_dim_32_cosine_ndcg@10" in found:
                seen.append((step, found["dev_dim_32_cosine_ndcg@10"]))

    trainers = []
    build = run_module.build_trainer

    def building(*arguments):
        trainers.append(build(*arguments))
        return trainers[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "build_trainer", building)
        found = trained(recipe, root, tmp_path / "made", watch=Ruining())
    by_step = dict(seen[1:-1])  # before and after the training too
    assert list(by_step) == [12, 24, 36, 48]
    best = max(by_step, key=lambda step: (by_step[step], -step))
    assert by_step[48] < by_step[best]
    assert found.best_step == best
    assert found.after["dev_dim_32_cosine_ndcg@10"] == pytest.approx(by_step[best])
    card = (found.folder / "README.md").read_text()
    logs = card[card.index("### Training Logs") :]
    bold = [line for line in logs.splitlines() if line.startswith("| **")]
    assert len(bold) == 1
    assert bold[0].split("|")[2].strip() == f"**{best}**"


def test_the_lowest_loss_is_the_best(root, tmp_path):
    settings: dict[str, Any] = {
        "num_train_epochs": 3.0, "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
    }  # fmt: skip
    recipe = replace(
        small_recipe(CHAINS["mpnet"], **settings),
        evaluation=(Evaluation("loss", "dev.jsonl", "dev", columns=PAIRS),),
    )
    losses = {}

    class Listening:
        def stage(self, name):
            pass

        def step(self, done, total):
            pass

        def metrics(self, step, found):
            if "learning_rate" not in found:
                losses[step] = found["loss"]

    found = trained(recipe, root, tmp_path / "made", watch=Listening())
    assert found.best_step == min(list(losses)[1:], key=lambda step: losses[step])
    assert found.after["loss"] == pytest.approx(min(losses.values()))
    assert found.after["loss"] < found.before["loss"]


# Low-rank adapters


def test_adapters_are_merged_and_the_rest_stays(tmp_path, root):
    base = models.build("bert-cls", tmp_path)
    recipe = replace(
        small_recipe(Model(str(base)), **QUICK), lora=Lora(4, 8, target_modules=("query",))
    )
    recipe = replace(recipe, loss=Loss())
    found = trained(recipe, root, tmp_path / "made")
    before, after = weights(base), weights(found.folder)
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert all("query.weight" in name for name in changed), changed
    for name in changed:
        assert np.linalg.matrix_rank(after[name] - before[name], tol=1e-5) <= 4
    np.testing.assert_allclose(
        open_encoder(found.folder, runtime="torch", precision="float32")
        .encode_documents(["a path"]).vectors,
        unit(plain_model(found.folder).encode(["a path"])),
        atol=1e-5,
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"lora\.target_modules"):
        trained(replace(recipe, lora=Lora(target_modules=("nothing",))), root, tmp_path / "no")
    with pytest.raises(UsageError, match=r"\[lora\] adapts a trained base"):
        trained(replace(small_recipe(**QUICK), lora=Lora()), root, tmp_path / "no")


# Several sources, lengths


def test_several_sources_and_a_constant_label(root, tmp_path):
    recipe = small_recipe(**QUICK, multi_dataset_batch_sampler="round_robin")
    first = replace(recipe.data[0], rows=":32", label=1.0)
    second = Data("dev.jsonl", "second", columns=PAIRS, rows=":20")
    found = trained(replace(recipe, data=(first, second), sample=24), root, tmp_path / "made")
    assert found.rows == 24 + 20
    assert found.steps == 4, "two batches of each"
    same_name = replace(second, name="train")
    with pytest.raises(UsageError, match="same name: train, train"):
        trained(replace(recipe, data=(first, same_name)), root, tmp_path / "no")


def test_a_shorter_length_is_for_training_only(root, tmp_path):
    recipe = small_recipe(**QUICK, max_length=4)  # texts have three words, and two more tokens
    found = trained(recipe, root, tmp_path / "made")
    assert plain_model(found.folder).max_seq_length == 16
    whole = trained(small_recipe(**QUICK), root, tmp_path / "whole")
    cut_everywhere = trained(
        small_recipe(replace(MODEL, max_length=4), **QUICK), root, tmp_path / "short"
    )
    assert found.before == whole.before
    assert not same(found.folder, whole.folder)
    assert found.before != cut_everywhere.before


@pytest.mark.parametrize(
    ("name", "columns", "label", "kind"),
    [
        ("CachedMultipleNegativesRankingLoss", PAIRS, None, None),
        ("TripletLoss", {}, None, None),
        ("CoSENTLoss", {"sentence1": "sentence1", "sentence2": "sentence2"}, "score", "scored"),
    ],
)
def test_every_loss_trains(root, tmp_path, name, columns, label, kind):
    recipe = small_recipe(CHAINS["mpnet"], **QUICK | {"num_train_epochs": 4.0})
    data = Data(f"{kind or 'train'}.jsonl", columns=columns, label=label)
    wanted = Evaluation("similarity", "scored.jsonl", "sts", label="score")
    recipe = replace(recipe, loss=Loss(name, mini_batch_size=4), data=(data,), evaluation=(wanted,))
    found = trained(recipe, root, tmp_path / "made")
    assert found.after["sts_spearman_cosine"] > found.before["sts_spearman_cosine"] + 0.1


# Rows that are wrong


def test_strict_stops_before_anything_is_written(tmp_path, caplog):
    root = write_easy(tmp_path / "data", train=40)
    rows = easy_rows(40)
    write_rows(root / "train.jsonl", [*rows, {"anchor": "", "positive": "x", "negative": "y"}])
    recipe = small_recipe(**QUICK)
    with pytest.raises(InputError, match="an empty text; they are left out"):
        trained(recipe, root, tmp_path / "made", strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    found = trained(recipe, root, tmp_path / "made")
    assert [finding.kind for finding in found.findings] == ["empty"]
    assert found.rows == 40
    facts = json.loads((found.folder / "training.json").read_text())
    assert facts["checks"] == [finding.to_json() for finding in found.findings]
    assert facts["after"] == found.after


@pytest.mark.parametrize("name", ["cosine_ndcg@10", "eval_dev_dim_64_cosine_ndcg@10", "loss"])
def test_a_metric_that_is_not_measured_is_refused_before_training(root, tmp_path, name):
    settings: dict[str, Any] = {"load_best_model_at_end": True, "metric_for_best_model": name}
    told = rf"metric_for_best_model = '{name}' is not measured: did you mean '\w+"
    with pytest.raises(UsageError, match=told) as caught:
        trained(small_recipe(**settings), root, tmp_path / "made")
    assert ("dev_dim_32_cosine_ndcg@10" in str(caught.value)) == (name != "loss")
    assert not list((tmp_path / "made.work").glob("checkpoint-*"))


def test_a_measure_that_cannot_be_computed_is_null(root, tmp_path):
    """All scores are the same: there is no correlation."""
    constant = Evaluation("similarity", "dev.jsonl", "flat", label=1.0)
    recipe = replace(small_recipe(**QUICK), evaluation=(constant,))
    found = trained(recipe, root, tmp_path / "made")
    assert np.isnan(found.after["flat_dim_32_spearman_cosine"])
    facts = json.loads((found.folder / "training.json").read_text(), parse_constant=pytest.fail)
    assert facts["after"]["flat_dim_32_spearman_cosine"] is None
    again = trained(recipe, root, tmp_path / "made")
    assert again.already
    assert np.isnan(again.after["flat_dim_32_spearman_cosine"])


def test_the_output_folder_holds_a_model_and_nothing_else(learned):
    folder = learned("bert-dense").folder
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        "README.md", "training.json", "modules.json", "config.json", "model.safetensors",
        "config_sentence_transformers.json", "sentence_bert_config.json", "tokenizer.json",
        "tokenizer_config.json", "1_Pooling/config.json", "2_Dense/config.json",
        "2_Dense/model.safetensors",
    }  # fmt: skip
    shutil.copytree(folder, folder.with_name("moved"))
    np.testing.assert_array_equal(
        plain_model(folder.with_name("moved")).encode(["bal"]), plain_model(folder).encode(["bal"])
    )
    assert Path(learned("bert-dense").to_json()["recipe"]["name"]).name == "small"
