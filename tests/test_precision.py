"""An index keeps the precision it was made in: recorded, gone on with, refused or mixed aloud."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import semsearch
import semsearch.encoders
from semsearch.cli.main import cli
from semsearch.encoders import open_encoder
from semsearch.encoders.runtimes import openvino
from semsearch.encoders.runtimes.choose import Precision
from semsearch.errors import Mismatch, UsageError
from semsearch.types import Hit
from tests import models
from tests.fakes import FakeEncoder, make_documents

capable = pytest.mark.skipif(not openvino.has_int8(), reason="this processor has no int8 products")

TEXTS = {
    "parse": "Parse a string into a datetime, given a format.",
    "sort": "Return a new list in ascending order.",
    "suffix": "Return a new path with the suffix changed.",
    "count": "Count how often each element occurs.",
}
MORE = {
    "join": "Join the words of a list with a separator.",
    "strip": "Remove spaces at both ends.",
}
QUESTION = "a list in order"

HALF = 2e-4
"""Beyond what storing in half precision takes."""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return models.build("bert-cls", tmp_path_factory.mktemp("models"))


@pytest.fixture
def no_gpu(monkeypatch) -> None:
    """What ``auto`` means must not depend on the machine."""
    monkeypatch.setattr("semsearch.encoders.runtimes.choose.sees_nvidia", lambda: False)


@pytest.fixture
def incapable(monkeypatch, no_gpu) -> None:
    """From here on the processor lacks int8 products; call it after what needs them."""
    monkeypatch.setattr(openvino, "has_int8", lambda: False)


def call(*arguments, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result.stdout, result.stderr


def write(path: Path, texts: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps({"_id": n, "text": t}) + "\n" for n, t in texts.items()))
    return path


def vectors(model: Path, precision: Precision, texts: list[str]) -> np.ndarray:
    encoder = open_encoder(model, runtime="openvino", precision=precision)
    return encoder.encode_documents(texts).vectors


def stored(folder: Path) -> np.ndarray:
    """The index's vectors in the order of insertion."""
    with semsearch.open(folder) as index:
        return index.reader.snapshot().rows.take(np.arange(len(index))).astype(np.float32)


def off(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max())


def runtime_of(folder: Path) -> str:
    return json.loads(call("status", "-i", folder, "--json")[0])["runtime"]


def scores_of(hits: list[Hit]) -> np.ndarray:
    """In the order of TEXTS."""
    found = {hit.id: hit.score for hit in hits}
    return np.array([found[name] for name in TEXTS])


@pytest.fixture(scope="module")
def made(model, tmp_path_factory) -> Path:
    """An index in int8; tests that change it take a copy."""
    home = tmp_path_factory.mktemp("int8")
    corpus = write(home / "corpus.jsonl", TEXTS)
    call("index", corpus, "-i", home / "idx", "-m", model, "--precision", "int8")
    return home / "idx"


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy.idx"))


@capable
def test_an_int8_index_is_asked_and_extended_in_int8(folder, model, tmp_path):
    assert runtime_of(folder) == "openvino int8"
    small, auto = (vectors(model, p, list(TEXTS.values())) for p in ("int8", "auto"))
    assert off(stored(folder), small) < HALF < off(stored(folder), auto)

    small, auto = (stored(folder) @ vectors(model, p, [QUESTION])[0] for p in ("int8", "auto"))
    with semsearch.open(folder) as index:
        scores = scores_of(index.search(QUESTION, mode="dense"))
    assert off(scores, small) < HALF < off(scores, auto)

    _, notes = call("index", write(tmp_path / "more.jsonl", MORE), "-i", folder)
    assert notes == ""
    small, auto = (vectors(model, p, list(MORE.values())) for p in ("int8", "auto"))
    new = stored(folder)[len(TEXTS) :]
    assert off(new, small) < HALF < off(new, auto)


@capable
def test_the_same_precision_may_be_named_again(folder, model):
    with semsearch.open(folder, model, precision="int8") as index:
        assert index.encoder_for(index.reader.snapshot()).precision == "int8"
        assert index.add([semsearch.Document("n", "new words")]).encoded == 1
    assert runtime_of(folder) == "openvino int8"


@capable
def test_an_index_made_without_asking_stays_as_it_is(model, tmp_path, no_gpu):
    folder = tmp_path / "auto.idx"
    corpus = write(tmp_path / "corpus.jsonl", TEXTS)
    call("index", corpus, "-i", folder, "-m", model)
    native = "bf16" if openvino.has_bf16() else "float32"
    assert runtime_of(folder) == f"openvino {native}"
    with semsearch.open(folder) as index:
        assert index.encoder_for(index.reader.snapshot()).precision == native
    _, refused = call("index", corpus, "-i", folder, "--precision", "int8", code=1)
    assert refused == (
        f"Error: {folder}: the index was made in {native}, not in int8: leave out the precision,"
        " or make a new index with -i\n"
    )
    assert runtime_of(folder) == f"openvino {native}"


@capable
def test_another_precision_than_the_index_has_is_refused(folder, tmp_path):
    corpus = write(tmp_path / "more.jsonl", MORE)
    _, refused = call("index", corpus, "-i", folder, "--precision", "bf16", code=1)
    assert refused.startswith(f"Error: {folder}: the index was made in int8, not in bf16: leave")
    assert refused.count("\n") == 1
    with semsearch.open(folder, precision="float32") as index:
        with pytest.raises(Mismatch, match="made in int8, not in float32"):
            index.search(QUESTION)
        assert index.search("list", mode="lexical"), "words need no model"
        assert len(index) == len(TEXTS)


@capable
def test_elsewhere_an_int8_index_is_mixed_with_a_warning(folder, model, tmp_path, incapable):
    _, notes = call("query", QUESTION, "-i", folder)
    native = "bf16" if openvino.has_bf16() else "float32"
    (line,) = notes.splitlines()
    assert line.startswith(f"note: {native} is mixed with int8 here")
    assert "VNNI or AMX" in line
    with semsearch.open(folder) as index:
        scores = scores_of(index.search(QUESTION, mode="dense"))
    assert off(scores, stored(folder) @ vectors(model, "auto", [QUESTION])[0]) < HALF

    _, notes = call("index", write(tmp_path / "more.jsonl", MORE), "-i", folder)
    assert notes.splitlines() == [line]
    assert off(stored(folder)[len(TEXTS) :], vectors(model, "auto", list(MORE.values()))) < HALF
    assert runtime_of(folder) == "openvino int8", "machines that can go on in int8"


@capable
def test_int8_that_was_asked_for_is_never_replaced(folder, model, tmp_path, incapable):
    corpus = write(tmp_path / "more.jsonl", MORE)
    for index in (folder, tmp_path / "new.idx"):
        _, refused = call("index", corpus, "-i", index, "-m", model, "--precision=int8", code=2)
        assert refused.splitlines()[-1].startswith("Error: precision int8 needs a processor with")
    with semsearch.open(folder) as opened:
        assert len(opened) == len(TEXTS)
    call("index", corpus, "-i", tmp_path / "new.idx", "-m", model)
    assert "int8" not in runtime_of(tmp_path / "new.idx"), "what was refused was not recorded"


def test_a_model_that_int8_cannot_run_falls_back_only_if_allowed(model, caplog, incapable):
    with pytest.raises(UsageError, match="VNNI or AMX"):
        open_encoder(model, precision="int8").encode_queries(["x"])
    with caplog.at_level(logging.WARNING, "semsearch"):
        lenient = open_encoder(model, precision="int8", or_auto=True)
        assert not caplog.records, "nothing is started before it is needed"
        found = lenient.encode_queries([QUESTION]).vectors
        lenient.encode_queries(["again"])
    (record,) = caplog.records
    assert "is mixed with int8" in record.getMessage()
    np.testing.assert_array_equal(found, vectors(model, "auto", [QUESTION]))


@pytest.mark.parametrize("recorded", ["int8", "bf16", "float32", "fp16"])
def test_what_an_index_is_opened_with(tmp_path, monkeypatch, recorded):
    encoder, asked = FakeEncoder(), []
    encoder.precision = recorded

    def opening(_name, **options):
        asked.append((options["precision"], options["or_auto"]))
        return encoder

    monkeypatch.setattr(semsearch.encoders, "open_encoder", opening)
    semsearch.open(tmp_path / "idx", precision=recorded).add(make_documents(3))
    for precision in ("auto", recorded):
        with semsearch.open(tmp_path / "idx", precision=precision) as index:
            assert len(index.search("title")) == 3
    kept = "int8" if recorded == "int8" else "auto"
    assert asked == [(recorded, False), (kept, True), (recorded, False)]
