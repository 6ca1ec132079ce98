"""Reading cross-encoder folders: what is used, and what is refused in one line."""

import json
import shutil
from pathlib import Path

import pytest

from semsearch.encoders import open_encoder
from semsearch.encoders.resolve import resolve_cross_encoder
from semsearch.errors import ModelError, NotFound, UsageError
from semsearch.ranking.cross_encoder import open_cross_encoder
from semsearch.ranking.cross_encoder.folder import read_cross_folder
from tests import models
from tests.cross_encoder_models import build_cross_encoder, with_chain


def texts_of(vids):
    return {vid: "text" for vid in vids}


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return build_cross_encoder("bert", tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def chain(original, tmp_path_factory) -> Path:
    return with_chain(original, tmp_path_factory.mktemp("chain") / "model")


@pytest.fixture
def folder(original, tmp_path) -> Path:
    return shutil.copytree(original, tmp_path / "model")


@pytest.fixture
def modular(chain, tmp_path) -> Path:
    return shutil.copytree(chain, tmp_path / "modular")


def edit(path: Path, **changes) -> None:
    values = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**values, **changes}))


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        open_cross_encoder(folder, texts_of)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def refused_when_loaded(folder: Path, message: str) -> None:
    for runtime in ("torch", "openvino"):
        reranker = open_cross_encoder(folder, texts_of, runtime=runtime)
        with pytest.raises(ModelError, match=message) as caught:
            assert reranker.runtime
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)


def test_what_a_folder_says(folder, modular):
    for place in (folder, modular):
        config = read_cross_folder(place)
        assert config.plain
        assert (config.max_length, config.prompt) == (48, "")
        assert config.model.weights == (place / "model.safetensors",)


def test_no_limit_declared(folder):
    edit(folder / "tokenizer_config.json", model_max_length=10**30)
    assert read_cross_folder(folder).max_length == 64  # positions
    edit(folder / "config.json", max_position_embeddings=None)
    assert read_cross_folder(folder).max_length == 32_768


def test_a_prompt_is_only_used_by_default_if_it_is_the_default(modular):
    edit(modular / "config_sentence_transformers.json", prompts={"q": "ask: "})
    assert read_cross_folder(modular).prompt == ""
    edit(modular / "config_sentence_transformers.json", default_prompt_name="q")
    assert read_cross_folder(modular).prompt == "ask: "


def test_a_bi_encoder_cannot_rerank(tmp_path):
    bi_encoder = models.build("bert-cls", tmp_path)
    refused(bi_encoder, r"encodes single texts \(a bi-encoder\): it cannot rerank")
    refused(tmp_path / "bert-cls-base", r"no head for one score \(BertModel\)")


def test_a_cross_encoder_cannot_encode(folder, modular):
    for place in (folder, modular):
        with pytest.raises(ModelError, match="a cross-encoder.*can rerank, not encode") as caught:
            open_encoder(place)
        assert "\n" not in str(caught.value)


def test_a_classifier_cannot_rerank(tmp_path):
    folder = build_cross_encoder("bert", tmp_path, labels=3)
    refused(folder, r"a classifier of 3 labels \(LABEL_0, LABEL_1, LABEL_2\): cannot rerank")
    edit(folder / "config.json", id2label=None)
    refused(folder, "a classifier of 2 labels")


def test_no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    refused(folder, "no tokenizer")


def test_only_pickled_weights(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "only pickled weights")


def test_code_is_refused(folder, modular):
    edit(folder / "config.json", auto_map={"AutoModel": "evil.py"})
    refused(folder, "'auto_map' asks for code")
    entries = json.loads((modular / "modules.json").read_text())
    entries[0]["type"] = "evil.Transformer"
    (modular / "modules.json").write_text(json.dumps(entries))
    refused(modular, "custom code")


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["Transformer", "Pooling"], "its chain ends in Pooling"),
        (["Pooling"], "a Transformer, then what makes its score"),
        (["Transformer", "Router"], "module Router is not supported"),
        ([], "an array of modules"),
    ],
)
def test_chains_without_a_score(modular, kinds, message):
    (modular / "1").mkdir()
    edit(modular / "1" / "config.json", pooling_mode="mean", embedding_dimension=64)
    entries = [
        {
            "type": f"sentence_transformers.models.{kind}",
            "path": "1" if kind != "Transformer" else "",
        }
        for kind in kinds
    ]
    (modular / "modules.json").write_text(json.dumps(entries))
    refused(modular, message)


def test_a_dense_layer_of_many_scores(modular):
    (modular / "1").mkdir()
    edit(modular / "1" / "config.json", in_features=64, out_features=3, module_output_name="scores")
    entries = json.loads((modular / "modules.json").read_text())
    dense = {"type": "sentence_transformers.base.modules.dense.Dense", "path": "1"}
    (modular / "modules.json").write_text(json.dumps([*entries, dense]))
    refused(modular, "gives 3 scores to a pair")


def test_images_are_no_passages(modular):
    edit(modular / "sentence_bert_config.json", modality_config={"image": {}, "text": {}})
    refused(modular, "not a plain text encoder")


def test_an_architecture_that_nobody_knows(folder):
    edit(folder / "config.json", model_type="bertrand")
    refused_when_loaded(folder, "cannot be loaded: .*bertrand")


def test_weights_without_the_head(folder):
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    refused_when_loaded(folder, r"lack the head that scores: \['classifier.weight'")


def test_a_damaged_tokenizer(folder):
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    refused_when_loaded(folder, "not a usable tokenizer")


def test_pairs_laid_out_in_another_way_run_on_torch(folder, caplog):
    """The library pads this one in front; what it gives the model is not what we would."""
    edit(folder / "tokenizer_config.json", padding_side="left")
    reranker = open_cross_encoder(folder, texts_of)
    assert reranker.runtime == "torch"
    assert "only torch serves" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, "a cross-encoder has no .* precision 'int8'"),
        ({"runtime": "tpu"}, "a cross-encoder has no runtime 'tpu'"),
        ({"runtime": "openvino", "device": "cuda"}, "use torch"),
        ({"max_length": 0}, "leaves nothing to read"),
    ],
)
def test_options_that_make_no_sense(folder, options, message):
    with pytest.raises(UsageError, match=message):
        open_cross_encoder(folder, texts_of, **options)


def test_a_maximum_length_below_the_special_tokens(folder):
    reranker = open_cross_encoder(folder, texts_of, max_length=3)
    with pytest.raises(ModelError, match="a maximum length of 3 is too short"):
        assert reranker.runtime


def test_names(original, tmp_path, monkeypatch):
    for name in ("no/such-model", "no-such-model"):
        with pytest.raises(NotFound, match="not on this machine: name its folder") as caught:
            open_cross_encoder(name, texts_of, local_only=True)
        assert "-m FOLDER" not in str(caught.value)
    with pytest.raises(NotFound, match="model cross-encoder/no-such-model"):
        resolve_cross_encoder("no-such-model", local_only=True)
    with pytest.raises(NotFound, match="could not be fetched.*name its folder"):
        resolve_cross_encoder("someone/not-there")
    with pytest.raises(NotFound, match="no such model folder"):
        resolve_cross_encoder(tmp_path / "gone")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "models--cross-encoder--tiny"
    snapshot = home / "snapshots" / ("b" * 40)
    shutil.copytree(original, snapshot)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("b" * 40)
    assert resolve_cross_encoder("tiny", local_only=True) == snapshot
