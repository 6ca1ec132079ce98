"""int8 vectors are close to float ones, made the same way each time, refused where impossible."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from semsearch.encoders import open_encoder
from semsearch.encoders.runtimes import graph, openvino
from semsearch.encoders.runtimes.choose import Precision
from semsearch.encoders.runtimes.int8 import quantised
from semsearch.encoders.sealed import is_whole
from semsearch.errors import ModelError, UsageError
from semsearch.fs import cache_folder
from tests import models

capable = pytest.mark.skipif(not openvino.has_int8(), reason="this processor has no int8 products")

DOCUMENTS = [
    "Parse a string into a datetime, given a format.",
    "Compress files, one by one.",
    "Write the lines of files in sorted order.",
    "Deserialize a string with a JSON document into objects.",
    "Open a URL and read the answer of the server.",
    "Compute the SHA-256 digest of bytes.",
    "Remove a folder and everything in it.",
    "Run another program and wait until it ends.",
    "How proteins fold is decided by their amino acids.",
    "The price of gold rose for the third day.",
]
QUERIES = ["how do I read JSON", "make a file smaller", "delete a directory", "fetch a web page"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("models")
    return {kind: models.build(kind, home) for kind in models.KINDS}


def vectors(folder: str | Path, precision: Precision, texts: list[str]) -> np.ndarray:
    encoder = open_encoder(folder, runtime="openvino", precision=precision, local_only=True)
    found = encoder.encode_documents(texts).vectors
    assert encoder.precision == precision
    return found


def products_of(folder: Path) -> tuple[int, int]:
    """How many MatMuls the kept graph has, and how many of them read 8 bits on both sides."""
    library = graph.import_openvino()
    model = library.Core().read_model(folder / graph.GRAPH)
    products = [node for node in model.get_ops() if node.get_type_name() == "MatMul"]
    both = [
        node
        for node in products
        if all(node.input_value(i).get_node().get_type_name() == "FakeQuantize" for i in (0, 1))
    ]
    return len(products), len(both)


@capable
@pytest.mark.parametrize("kind", models.KINDS)
def test_small_models(folders, kind):
    full = vectors(folders[kind], "float32", models.TEXTS)
    small = vectors(folders[kind], "int8", models.TEXTS)
    cosines = (full * small).sum(axis=1)
    assert cosines.min() > 0.97
    assert not np.array_equal(full, small)


@capable
def test_the_default_model_and_its_ranking():
    full = vectors("all-MiniLM-L6-v2", "float32", DOCUMENTS + QUERIES)
    small = vectors("all-MiniLM-L6-v2", "int8", DOCUMENTS + QUERIES)
    cosines = (full * small).sum(axis=1)
    assert cosines.min() > 0.99
    n = len(DOCUMENTS)
    expected, found = (rows[n:] @ rows[:n].T for rows in (full, small))
    assert np.array_equal(expected.argmax(axis=1), found.argmax(axis=1))
    assert np.array_equal(expected.argmax(axis=1), (full[n:] @ small[:n].T).argmax(axis=1))
    assert np.abs(expected - found).max() < 0.03


@capable
def test_the_int8_form_is_the_same_every_time(folders, tmp_path, monkeypatch):
    made = []
    for name in ("one", "two"):
        monkeypatch.setenv("SEMSEARCH_CACHE", str(tmp_path / name))
        encoder = open_encoder(folders["bert-cls"], runtime="openvino", precision="int8")
        found = encoder.encode_documents(models.TEXTS).vectors
        release = graph.import_openvino().__version__
        kept = graph.graph_folder(encoder.fingerprint, release, int8=True)
        assert is_whole(kept)
        total, both = products_of(kept)
        assert 0 < both <= total
        made.append(((kept / "graph.bin").read_bytes(), found))
    assert made[0][0] == made[1][0]
    np.testing.assert_array_equal(made[0][1], made[1][1])


@capable
def test_it_is_made_from_the_kept_float_form(folders, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SEMSEARCH_CACHE", str(tmp_path))
    vectors(folders["mpnet"], "float32", ["keep the float form"])
    monkeypatch.setattr(graph, "convert", lambda _config: pytest.fail("converted again"))
    with caplog.at_level(logging.INFO, "semsearch"):
        first = vectors(folders["mpnet"], "int8", models.TEXTS)
        assert caplog.text.count("making the int8 form") == 1
        again = vectors(folders["mpnet"], "int8", models.TEXTS)
    assert caplog.text.count("making the int8 form") == 1
    np.testing.assert_array_equal(first, again)
    shutil.rmtree(cache_folder())


def test_a_model_without_such_products_is_refused(folders):
    encoder = open_encoder(folders["bert-cls"], runtime="openvino")
    library = graph.import_openvino()
    ops = library.opset13
    ids = ops.parameter([-1, -1], np.int64, name="input_ids")
    bare = library.Model([ops.convert(ids, "f32")], [ids], "bare")
    with pytest.raises(ModelError, match="use bf16"):
        quantised(bare, encoder.config)


def test_int8_is_refused_where_it_cannot_be(folders, monkeypatch):
    with pytest.raises(UsageError, match="openvino runtime on a CPU"):
        open_encoder(folders["bert-cls"], precision="int8", runtime="torch")
    with pytest.raises(UsageError, match="openvino runtime on a CPU"):
        open_encoder(folders["bert-cls"], precision="int8", device="cuda")
    monkeypatch.setattr(openvino, "processor", lambda: "flags : avx2 fma")
    assert not openvino.has_int8()
    with pytest.raises(UsageError, match="needs a processor with VNNI or AMX"):
        open_encoder(folders["bert-cls"], precision="int8").encode_queries(["x"])
