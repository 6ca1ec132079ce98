"""Model folders: names, generations, what is read from them and what is refused."""

import json
import shutil
from pathlib import Path

import pytest

from semsearch.encoders import fingerprint_of, open_encoder
from semsearch.encoders.folder import read_folder
from semsearch.encoders.resolve import cached_copy, packaged_copy, resolve_model
from semsearch.errors import ModelError, NotFound, UsageError
from tests import models


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return models.build("bert-dense", tmp_path_factory.mktemp("folder"))


@pytest.fixture
def folder(original, tmp_path) -> Path:
    return shutil.copytree(original, tmp_path / "model")


def edit(path: Path, **changes) -> None:
    values = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**values, **changes}))


def test_what_a_folder_says(folder):
    config = read_folder(folder)
    assert [module.kind for module in config.modules] == ["Transformer", "Pooling", "Dense"]
    assert (config.dim, config.max_length, config.lower_case) == (112, 48, False)
    assert len(config.weights) == 2
    assert (config.query_prompt, config.document_prompt, config.matryoshka_dims) == ("", "", ())


def old_generation(folder: Path) -> None:
    """Rewrite a folder as sentence-transformers 2 wrote it."""
    edit(folder / "sentence_bert_config.json", max_seq_length=48, do_lower_case=False)
    for name in ("modality_config", "module_output_name", "transformer_task"):
        values = json.loads((folder / "sentence_bert_config.json").read_text())
        values.pop(name, None)
        (folder / "sentence_bert_config.json").write_text(json.dumps(values))
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 64, "pooling_mode_mean_tokens": True})
    )
    modules = json.loads((folder / "modules.json").read_text())
    for module in modules:
        module["type"] = "sentence_transformers.models." + module["type"].rpartition(".")[2]
    (folder / "modules.json").write_text(json.dumps(modules))


def test_generations_have_one_fingerprint(original, folder):
    old_generation(folder)
    assert fingerprint_of(folder) == fingerprint_of(original)
    assert open_encoder(folder).fingerprint == fingerprint_of(original)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.json", {"hidden_act": "relu"}),
        ("1_Pooling/config.json", {"pooling_mode": "cls"}),
        ("sentence_bert_config.json", {"max_seq_length": 32}),
        ("sentence_bert_config.json", {"do_lower_case": True}),
        ("config_sentence_transformers.json", {"prompts": {"query": "q: "}}),
        ("config_sentence_transformers.json", {"truncate_dim": 32}),
        ("tokenizer.json", {"decoder": None, "x": 1}),
    ],
)
def test_the_fingerprint_changes_with_what_shapes_vectors(original, folder, file, change):
    edit(folder / file, **change)
    assert fingerprint_of(folder) != fingerprint_of(original)


def test_the_fingerprint_ignores_names_and_places(original, folder):
    edit(folder / "config.json", _name_or_path="elsewhere", transformers_version="9.9")
    (folder / "README.md").write_text("# Another card")
    assert fingerprint_of(folder) == fingerprint_of(original)


def test_changed_weights_change_the_fingerprint(original, folder):
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert fingerprint_of(folder) != fingerprint_of(original)


def test_prompts(folder):
    shared = folder / "config_sentence_transformers.json"
    edit(shared, prompts={"query": "q: ", "passage": "p: ", "document": ""})
    config = read_folder(folder)
    assert (config.query_prompt, config.document_prompt) == ("q: ", "p: ")
    edit(shared, prompts={"only": "o: "}, default_prompt_name="only")
    assert read_folder(folder).query_prompt == ""


def test_matryoshka_dims(folder):
    card = '```json\n{\n "matryoshka_dims": [\n 16,\n 64,\n 112,\n 768\n ]}\n```'
    (folder / "README.md").write_text(card)
    assert read_folder(folder).matryoshka_dims == (112, 64, 16)
    edit(folder / "config_sentence_transformers.json", matryoshka_dims=[32, 64])
    assert read_folder(folder).matryoshka_dims == (64, 32)


def test_truncate_dim_is_the_width(folder):
    edit(folder / "config_sentence_transformers.json", truncate_dim=16)
    encoder = open_encoder(folder, runtime="torch", precision="float32")
    expected = models.reference(folder, ["some text"])
    found = encoder.encode_documents(["some text"]).vectors
    assert found.shape == expected.shape == (1, 16)
    assert (found * expected).sum() > 0.9999


REFUSED = [
    ("config.json", {"auto_map": {"AutoModel": "evil.Model"}}, "code to be run"),
    ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.T", None]}}, "code to be run"),
    ("config.json", {"text_config": {"auto_map": {"AutoModel": "evil.M"}}}, "code to be run"),
    ("config.json", {"_attn_implementation": "evil/kernel"}, "kernel to be fetched"),
    ("config.json", {"quantization_config": {"quant_method": "x"}}, "code to be run"),
    ("sentence_bert_config.json", {"model_args": {"trust_remote_code": True}}, "code to be run"),
    ("sentence_bert_config.json", {"model_kwargs": {"cache_dir": "/x"}}, "not supported"),
    ("sentence_bert_config.json", {"transformer_task": "any-to-any"}, "not a plain text encoder"),
    ("2_Dense/config.json", {"activation_function": "os.system"}, "not one of torch.nn's own"),
    ("2_Dense/config.json", {"activation_function": "torch.load"}, "not one of torch.nn's own"),
    ("1_Pooling/config.json", {"pooling_mode": "median"}, "unknown pooling"),
    ("config_sentence_transformers.json", {"similarity_fn_name": "dot"}, "compares by 'dot'"),
    ("config_sentence_transformers.json", {"similarity_fn_name": "euclidean"}, "only cosine"),
    ("config_sentence_transformers.json", {"prompts": {"query": 7}}, "is not a text"),
    ("adapter_config.json", {"base_model_name_or_path": "evil/base"}, "adapter"),
]


@pytest.mark.parametrize(("file", "change", "message"), REFUSED)
def test_refused_settings(folder, file, change, message):
    edit(folder / file, **change)
    refused(folder, message)


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        open_encoder(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ({"type": "evil.Module"}, "custom code"),
        ({"type": "sentence_transformers_evil.Pooling"}, "custom code"),
        ({"type": "sentence_transformers.models.BoW"}, "BoW is not supported"),
        ({"path": "../elsewhere"}, "leads out of the model folder"),
        ({"path": "/etc"}, "leads out of the model folder"),
        ({"path": 3}, "leads out of the model folder"),
    ],
)
def test_refused_modules(folder, module, message):
    modules = json.loads((folder / "modules.json").read_text())
    modules[1].update(module)
    (folder / "modules.json").write_text(json.dumps(modules))
    refused(folder, message)


@pytest.mark.parametrize("weights", ["model.safetensors", "2_Dense/model.safetensors"])
def test_only_safetensors_are_read(folder, weights):
    path = folder / weights
    path.rename(path.with_name("pytorch_model.bin"))
    refused(folder, "only pickled weights")
    path.with_name("pytorch_model.bin").unlink()
    refused(folder, "model.safetensors is missing")


def test_sharded_weights_stay_in_the_folder(folder):
    shutil.move(folder / "model.safetensors", folder.parent / "outside.safetensors")
    index = {"weight_map": {"a": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "are not in the model folder")


@pytest.mark.parametrize("name", ["modules.json", "config.json", "1_Pooling/config.json"])
def test_missing_and_broken_files(folder, name):
    (folder / name).write_text('{"a": 1,\n}')
    refused(folder, f"{name}:2: not JSON")
    (folder / name).write_bytes(b"\xff\xfe\xff")
    refused(folder, "not JSON")
    (folder / name).write_text("[" * 100_000)
    refused(folder, "not JSON")
    (folder / name).unlink()
    refused(folder, "missing")


def test_no_tokenizer(folder):
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    refused(folder, "no tokenizer")


def test_names(tmp_path, monkeypatch):
    packaged = resolve_model("all-MiniLM-L6-v2", local_only=True)
    assert packaged == resolve_model("sentence-transformers/all-MiniLM-L6-v2", local_only=True)
    assert packaged_copy("someone/else") is None
    for name in ("no/such-model", "no-such-model"):
        with pytest.raises(NotFound, match=r"-m FOLDER.*semsearch\[offline\]"):
            resolve_model(name, local_only=True)
    for place in ("./nowhere", "a/b/c", "../x", "", Path("gone")):
        with pytest.raises(NotFound, match="no such model folder"):
            resolve_model(place)


def test_a_tampered_package_is_not_used(tmp_path, monkeypatch):
    from semsearch.encoders import resolve

    monkeypatch.setitem(resolve._PUBLISHED, "model.safetensors", "0" * 64)
    with pytest.raises(NotFound, match="is not on this machine"):
        resolve_model("all-MiniLM-L6-v2", local_only=True)


def test_the_hugging_face_cache(original, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    home = tmp_path / "models--someone--model"
    snapshot = home / "snapshots" / ("a" * 40)
    shutil.copytree(original, snapshot)
    (home / "refs").mkdir()
    assert cached_copy("someone/model") is None
    (home / "refs" / "main").write_text("a" * 40)
    assert resolve_model("someone/model", local_only=True) == snapshot
    (home / "refs" / "main").write_text("../../..")
    assert cached_copy("someone/model") is None


def test_a_failing_download_is_one_line():
    with pytest.raises(NotFound, match="could not be fetched.*-m FOLDER") as caught:
        resolve_model("someone/not-there")
    assert "\n" not in str(caught.value)


def test_impossible_combinations(folder):
    with pytest.raises(UsageError, match="on the CPU"):
        open_encoder(folder, runtime="openvino", device="cuda")
    with pytest.raises(UsageError, match="unknown runtime"):
        open_encoder(folder, precision="int3")  # type: ignore[arg-type]
