"""Token vectors are those of sentence-transformers, text by text, in every runtime."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from semsearch.encoders import open_encoder
from semsearch.encoders.encoder import Encoder
from semsearch.encoders.folder import read_folder
from semsearch.encoders.runtimes import openvino
from semsearch.encoders.runtimes.choose import Precision, RuntimeName
from semsearch.encoders.runtimes.contract import Output
from semsearch.encoders.tokens import Tokens
from semsearch.errors import ModelError
from tests import models

LOWEST: dict[tuple[RuntimeName, Precision], float] = {
    ("torch", "float32"): 0.9999,
    ("torch", "bf16"): 0.99,
    ("openvino", "float32"): 0.9999,
    ("openvino", "bf16"): 0.99,
}
TEXTS = [text.replace("\ud800", "\ufffd") for text in models.TEXTS]


class Sink:
    """Keeps the token vectors of each position, and checks what every call promises."""

    def __init__(self):
        self.rows = {}
        self.calls = 0
        self.thread = threading.get_ident()

    def __call__(self, positions, lengths, rows):
        assert threading.get_ident() == self.thread
        assert (positions.dtype, lengths.dtype, rows.dtype) == (np.int64, np.int64, np.float32)
        assert len(rows) == lengths.sum()
        self.calls += 1
        parts = np.split(rows, lengths.cumsum()[:-1])
        for position, part in zip(positions.tolist(), parts, strict=True):
            assert position not in self.rows
            self.rows[position] = part


def reference(folder, texts, prompt=""):
    """Unit rows of each text's token embeddings, special ones and the prompt's left out."""
    with models.calm():
        import torch
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        found = []
        for text in texts:  # one by one: the library trims padding, but not in every tokenizer
            with torch.inference_mode():
                (rows,) = model.encode(
                    [prompt + text], output_value="token_embeddings", prompt=None
                )
            rows = rows.float().numpy()[1:-1]
            found.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return found


def lowest_cosine(found, expected):
    assert sorted(found) == sorted(expected)
    cosines = [np.ones(1)]
    for position, rows in expected.items():
        assert found[position].shape == rows.shape, position
        cosines.append((found[position] * rows).sum(axis=1))
    return np.concatenate(cosines).min()


def first_ones(texts, rows):
    return {i: row for i, row in enumerate(rows) if texts.index(texts[i]) == i}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    return {kind: models.build(kind, home) for kind in models.KINDS}


@pytest.fixture(scope="module")
def expected(folders):
    return {k: first_ones(TEXTS, reference(folder, TEXTS)) for k, folder in folders.items()}


@pytest.mark.parametrize("kind", models.KINDS)
def test_small_models(folders, expected, kind):
    for (runtime, precision), lowest in LOWEST.items():
        encoder = open_encoder(folders[kind], runtime=runtime, precision=precision)
        sink = Sink()
        encoded = encoder.encode_documents(models.TEXTS, token_sink=sink)
        assert encoder.token_dim == 64
        assert lowest_cosine(sink.rows, expected[kind]) >= lowest, (runtime, precision)
        for rows in sink.rows.values():
            np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        without = encoder.encode_documents(models.TEXTS)
        np.testing.assert_array_equal(encoded.vectors, without.vectors)
        assert encoded.tokens.tolist() == without.tokens.tolist()


def test_the_default_model():
    texts = [*TEXTS[:12], "How are proteins folded? " * 60, "Ein deutscher Satz über Käse."]
    pairs: list[tuple[Precision, float]] = [("float32", 0.9999), ("bf16", 0.99)]
    for precision, lowest in pairs:
        encoder = open_encoder(
            "all-MiniLM-L6-v2", runtime="openvino", precision=precision, local_only=True
        )
        sink = Sink()
        encoder.encode_documents(texts, token_sink=sink)
        expected = first_ones(texts, reference(encoder.folder, texts))
        assert lowest_cosine(sink.rows, expected) >= lowest
        assert [len(sink.rows[i]) for i in (0, 1, 2, 12)] == [9, 0, 1, 254]
    assert encoder.token_dim == 384


@pytest.mark.skipif(not openvino.has_int8(), reason="this processor has no int8 products")
@pytest.mark.parametrize("kind", ["mpnet", "bert-dense"])
def test_int8(folders, expected, kind):
    encoder = open_encoder(folders[kind], runtime="openvino", precision="int8")
    sink = Sink()
    encoded = encoder.encode_documents(models.TEXTS, token_sink=sink)
    assert encoder.precision == "int8"
    assert lowest_cosine(sink.rows, expected[kind]) > 0.9
    np.testing.assert_array_equal(encoded.vectors, encoder.encode_documents(models.TEXTS).vectors)


@pytest.mark.parametrize("kind", ["bert-cls", "bert-unigram"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_prompts_are_left_out(tmp_path, kind, side):
    prompt = "query: find a path: "
    folder = models.build(kind, tmp_path, {"query": prompt})
    declared = folder / "tokenizer_config.json"
    settings = json.loads(declared.read_text())
    declared.write_text(json.dumps(settings | {"truncation_side": side}))
    many = Tokens(read_folder(folder)).prompt_length(prompt)
    words = [" ".join(f"{n}" for n in range(count)) for count in range(1, 60, 4)]
    texts = [*TEXTS[:9], *words, "query: find a string", "query: find a path: again", prompt]
    wholes = Tokens(read_folder(folder)).tokenize([prompt + text for text in texts])
    assert any(0 < row.length - len(row.ids) < many for row in wholes), "no prompt is cut in part"
    expected = {}
    for i, rows in enumerate(reference(folder, texts, prompt)):
        ends = Tokens(read_folder(folder)).offsets(prompt + texts[i])[:, 1]
        kept = ends[-46:] if side == "left" else ends[:46]
        expected[i] = rows[kept > len(prompt)]
    for runtime in ("torch", "openvino"):
        encoder = open_encoder(folder, runtime=runtime, precision="float32")
        sink = Sink()
        encoder.encode_queries(texts, token_sink=sink)
        assert lowest_cosine(sink.rows, expected) > 0.9999
        documents = Sink()
        encoder.encode_documents(["a path"], token_sink=documents)
        assert lowest_cosine(documents.rows, {0: reference(folder, ["a path"])[0]}) > 0.9999


def test_tokens_that_a_dense_module_changed(tmp_path):
    base = models.build("bert-cls", tmp_path)
    with models.calm():
        import torch
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules import Dense
        from sentence_transformers.sentence_transformer.modules import Pooling

        torch.manual_seed(3)
        dense = Dense(
            64, 40, activation_function=torch.nn.Tanh(), module_input_name="token_embeddings"
        )
        transformer = SentenceTransformer(str(base), device="cpu", local_files_only=True)[0]
        model = SentenceTransformer(modules=[transformer, dense, Pooling(40)], device="cpu")
        model.save_pretrained(str(tmp_path / "narrow"), create_model_card=False)
    expected = first_ones(TEXTS[:8], reference(tmp_path / "narrow", TEXTS[:8]))
    for runtime in ("torch", "openvino"):
        encoder = open_encoder(tmp_path / "narrow", runtime=runtime, precision="float32")
        sink = Sink()
        encoder.encode_documents(TEXTS[:8], token_sink=sink)
        assert (encoder.token_dim, encoder.dim) == (40, 40)
        assert lowest_cosine(sink.rows, expected) > 0.9999


def test_many_batches_and_repeated_texts(folders):
    encoder = open_encoder(folders["bert-dense"], runtime="openvino", precision="float32")
    texts = [f"text {n % 500} " + "and more of it " * (n % 7) for n in range(0, 1200, 2)]
    sink = Sink()
    done: list[int] = []
    encoder.encode_documents(texts, done.append, sink)
    assert sink.calls == len(done) > 4
    assert sorted(sink.rows) == [i for i, text in enumerate(texts) if texts.index(text) == i]
    for i in range(0, 250, 31):
        alone = Sink()
        encoder.encode_queries([texts[i]], alone)
        np.testing.assert_allclose(alone.rows[0], sink.rows[i], atol=5e-6)
    nothing = Sink()
    encoder.encode_documents([], token_sink=nothing)
    assert nothing.calls == 0


class Given:
    """A runtime that gives each kept token the row ``row`` in ``kind``."""

    name, precision, workers, budget, multiple = "torch", "fp16", 1, 512, 8

    def __init__(self, row, kind=np.float16):
        self.row = np.array([row], kind)

    def run(self, ids, mask, keep=None, *, prompt_length=0, many=False):
        vectors = np.ones((len(ids), 64), np.float32)
        return Output(vectors, None if keep is None else self.row.repeat(keep.sum(), axis=0))


def test_half_precision_is_widened(folders):
    encoder = Encoder("given", read_folder(folders["bert-cls"]), lambda _: Given([0.6, -0.8]))
    sink = Sink()
    encoder.encode_documents(["a path"], token_sink=sink)
    np.testing.assert_allclose(sink.rows[0], [[0.6, -0.8]] * len(sink.rows[0]), atol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_tokens_without_direction_are_refused(folders, bad, kind):
    config = read_folder(folders["bert-cls"])
    encoder = Encoder("given", config, lambda _: Given([0.6, bad], kind))
    encoder.encode_documents(["a path"])
    with pytest.raises(ModelError, match="without a direction"):
        encoder.encode_documents(["a path"], token_sink=Sink())
