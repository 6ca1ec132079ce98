"""Our vectors are those of SentenceTransformer.encode, row by row, in every runtime."""

from pathlib import Path

import numpy as np
import pytest

from semsearch.encoders import open_encoder
from semsearch.encoders.runtimes.choose import Precision, RuntimeName
from tests import models

LOWEST: dict[tuple[RuntimeName, Precision], float] = {
    ("torch", "float32"): 0.9999,
    ("torch", "fp16"): 0.9999,
    ("torch", "bf16"): 0.995,
    ("openvino", "float32"): 0.9999,
    ("openvino", "bf16"): 0.999,
}
# The reference cannot take a lone surrogate; ours reads it as U+FFFD.
READABLE = [text.replace("\ud800", "\ufffd") for text in models.TEXTS]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    return {kind: models.build(kind, home) for kind in models.KINDS}


@pytest.fixture(scope="module")
def expected(folders):
    return {kind: models.reference(folder, READABLE) for kind, folder in folders.items()}


@pytest.mark.parametrize("kind", models.KINDS)
def test_small_models(folders, expected, kind):
    for (runtime, precision), lowest in LOWEST.items():
        encoder = open_encoder(folders[kind], runtime=runtime, precision=precision)
        encoded = encoder.encode_documents(models.TEXTS)
        assert (encoder.runtime, encoder.precision) == (runtime, precision)
        assert encoded.vectors.shape == (len(models.TEXTS), encoder.dim) == expected[kind].shape
        assert encoded.vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(encoded.vectors, axis=1), 1, atol=1e-5)
        cosines = (encoded.vectors * expected[kind]).sum(axis=1)
        assert cosines.min() >= lowest, (runtime, precision, int(cosines.argmin()))


def test_the_small_models_tell_texts_apart(expected):
    for rows in expected.values():
        different = rows[[0, 3, 4, 5, 7]]
        others = (different @ different.T)[~np.eye(5, dtype=bool)]
        assert np.median(others) < 0.995


@pytest.mark.parametrize("kind", models.KINDS)
def test_a_row_does_not_depend_on_its_batch(folders, kind):
    encoder = open_encoder(folders[kind], runtime="openvino", precision="float32")
    together = encoder.encode_documents(models.TEXTS).vectors
    for i in (0, 1, 7, 20):
        alone = encoder.encode_documents([models.TEXTS[i]]).vectors[0]
        np.testing.assert_allclose(alone, together[i], atol=2e-6)


def test_many_batches_equal_one_by_one(folders):
    encoder = open_encoder(folders["bert-cls"], runtime="openvino", precision="float32")
    texts = [f"text {n} " + "and more of it " * (n % 17) for n in range(600)]
    many = encoder.encode_documents(texts).vectors
    for i in range(0, 600, 41):
        alone = encoder.encode_queries([texts[i]]).vectors[0]
        np.testing.assert_allclose(alone, many[i], atol=2e-6)


def test_the_default_model():
    encoder = open_encoder("all-MiniLM-L6-v2", local_only=True)
    texts = [*READABLE, "How are proteins folded? " * 60, "Ein deutscher Satz über Käse."]
    expected = models.reference(encoder.folder, texts)
    for runtime, precision in LOWEST:
        if (runtime, precision) in {("torch", "fp16"), ("torch", "bf16")}:
            continue  # a processor without fp16 takes very long
        encoder = open_encoder(
            "all-MiniLM-L6-v2", runtime=runtime, precision=precision, local_only=True
        )
        found = encoder.encode_documents(texts).vectors
        assert (found * expected).sum(axis=1).min() >= LOWEST[runtime, precision]
    assert (encoder.dim, encoder.max_length, encoder.matryoshka_dims) == (384, 256, ())


def test_prompts_are_those_of_the_library(tmp_path):
    prompts = {"query": "query: ", "document": "return a string or a path: "}
    folder = models.build("bert-cls", tmp_path, prompts)
    encoder = open_encoder(folder, runtime="torch", precision="float32")
    texts = ["a path", "a string of characters"]
    for task, ours in (("query", encoder.encode_queries), ("document", encoder.encode_documents)):
        expected = models.reference(folder, texts, task=task)
        assert (ours(texts).vectors * expected).sum(axis=1).min() > 0.9999
    queries, documents = encoder.encode_queries(texts), encoder.encode_documents(texts)
    assert not np.allclose(queries.vectors, documents.vectors, atol=1e-3)
    assert (documents.tokens > queries.tokens).all()
