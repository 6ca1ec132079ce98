"""Token vectors are those of sentence-transformers, text by text, in every runtime."""

import threading
from pathlib import Path

import numpy as np
import pytest

from semsearch.encoders import open_encoder
from semsearch.encoders.runtimes.choose import Precision, RuntimeName
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
        assert lowest_cosine(sink.rows, expected[kind]) - lowest >= 0, (runtime, precision)
        for rows in sink.rows.values():
            np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        without = encoder.encode_documents(models.TEXTS)
        np.testing.assert_array_equal(encoded.vectors, without.vectors)
        assert encoded.tokens.tolist() == without.tokens.tolist()
