"""PyTorch's runtime computes ahead, splits what does not fit, and goes on where fp16 overflows."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from semsearch.encoders import encoder as encoder_module
from semsearch.encoders.batching import batches, padded
from semsearch.encoders.encoder import Encoder
from semsearch.encoders.folder import read_folder
from semsearch.encoders.runtimes.contract import OutOfMemory, Streaming
from semsearch.encoders.runtimes.packed import without_packing
from semsearch.encoders.runtimes.torch import TorchRuntime
from semsearch.encoders.tokens import Tokens
from semsearch.errors import ModelError
from tests import models


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return read_folder(models.build("bert-cls", tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def prepared(config):
    """Batches of ids and mask, of many sizes."""
    tokens = Tokens(config)
    rows = [row.ids for row in tokens.tokenize(models.TEXTS)]
    groups = batches([len(row) for row in rows], 160, 1)
    return [
        padded([rows[i] for i in group], tokens.pad_id, 1, config.max_length) for group in groups
    ]


def lengths(config, texts):
    return [len(row.ids) for row in Tokens(config).tokenize(texts)]


class Narrow(TorchRuntime):
    """A device with room for so many tokens at once; it notes what it computed."""

    room = 10**9

    def _computed(self, features, kept=None):
        import torch

        size = features["input_ids"].size
        if size > self.room:
            raise torch.OutOfMemoryError(f"no room for {size}")
        self.sizes = [*getattr(self, "sizes", []), size]
        return super()._computed(features, kept)


@pytest.mark.parametrize("packed", [False, True])
def test_a_stream_is_its_batches_in_order(config, prepared, packed):
    runtime = TorchRuntime(config, "float32", "cpu", packed=packed)
    assert isinstance(runtime, Streaming)
    assert len(prepared) > 5
    for count in (len(prepared), 1, 0):
        some = prepared[:count]
        found = list(runtime.stream(iter(some)))
        assert len(found) == len(some)
        for output, batch in zip(found, some, strict=True):
            assert output.tokens is None
            np.testing.assert_allclose(output.vectors, runtime.run(*batch).vectors, atol=1e-6)


def test_a_stream_reads_a_few_batches_ahead(config, prepared):
    read = []

    def reading():
        for number, batch in enumerate(prepared):
            read.append(number)
            yield batch

    stream = TorchRuntime(config, "float32", "cpu").stream(reading())
    next(stream)
    assert 1 < len(read) < len(prepared)
    before = len(read)
    next(stream)
    assert len(read) == before + 1


@pytest.mark.parametrize("packed", [False, True])
def test_batches_are_split_where_memory_ends(config, prepared, packed):
    runtime = Narrow(config, "float32", "cpu", packed=packed)
    expected = [runtime.run(*batch).vectors for batch in prepared]
    runtime.room, runtime.sizes = 50, []
    found = [output.vectors for output in runtime.stream(iter(prepared))]
    assert [len(vectors) for vectors in found] == [len(batch.ids) for batch in prepared]
    for vectors, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(vectors, wanted, atol=1e-5)
    assert 1 < max(runtime.sizes) <= 50
    assert runtime.budget <= max(batch.ids.size for batch in prepared) // 2


def test_later_batches_keep_to_the_room_there_was(config, monkeypatch):
    monkeypatch.setattr(encoder_module, "_WINDOW", 64)
    texts = [f"text {n} " + "and more of it " * (n % 5) for n in range(200)]
    runtime = Narrow(config, "float32", "cpu")
    encoder = Encoder("bert", config, lambda _: runtime)
    wide = encoder.encode_documents(texts).vectors
    assert max(runtime.sizes) > 1000
    runtime.room, runtime.sizes = 900, []
    np.testing.assert_allclose(encoder.encode_documents(texts).vectors, wide, atol=1e-5)
    assert 450 <= runtime.budget <= 900
    assert max(runtime.sizes) <= 900
    fitting = [len(group) for group in batches(lengths(config, texts[:64]), runtime.budget, 1)]
    runtime.sizes = []
    encoder.encode_documents(texts[:64])
    assert len(runtime.sizes) == len(fitting), "split again, although the room was known"


def test_one_text_that_does_not_fit(config, prepared):
    runtime = Narrow(config, "float32", "cpu")
    runtime.room = 20
    with pytest.raises(ModelError, match="out of memory on one text of 4. tokens"):
        list(runtime.stream(prepared))


def test_other_faults_are_told_in_one_line(config, prepared, monkeypatch):
    runtime = TorchRuntime(config, "float32", "cpu")

    def fail(*_):
        raise RuntimeError("mat1 and mat2 differ\nin shape")

    monkeypatch.setattr(runtime, "_computed", fail)
    with pytest.raises(ModelError, match="^the model failed: mat1 and mat2 differ$"):
        list(runtime.stream(prepared))


def test_the_allocator_of_the_cpu(config, prepared, monkeypatch):
    runtime = TorchRuntime(config, "float32", "cpu")

    def fail(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(runtime, "_computed", fail)
    with pytest.raises(OutOfMemory):
        runtime.run(*prepared[0])


@pytest.mark.parametrize("packed", [False, True])
def test_overflow_in_fp16_goes_on_in_float32(config, prepared, packed, caplog):
    import torch

    runtimes = [TorchRuntime(config, p, "cpu", packed=packed) for p in ("float32", "fp16")]
    for runtime in runtimes:
        with torch.inference_mode():
            layer = runtime._model[0].auto_model.encoder.layer[1]
            layer.intermediate.dense.weight *= 20_000
            layer.output.dense.weight /= 20_000
    wide, half = runtimes
    expected = [output.vectors for output in wide.stream(prepared)]
    found = [output.vectors for output in half.stream(prepared)]
    assert half.precision == "float32"
    assert half.packs == packed
    said = [r.getMessage() for r in caplog.records if "fp16" in r.getMessage()]
    assert said == ["fp16 overflows in this model: continuing in float32"]
    for ours, wanted in zip(found, expected, strict=True):
        assert np.isfinite(ours).all()
        assert (ours * wanted).sum(axis=1).min() > 0.995


def test_several_threads_share_a_runtime(config, prepared):
    runtime = TorchRuntime(config, "float32", "cpu", packed=True)
    expected = list(runtime.stream(prepared))
    with ThreadPoolExecutor(4) as pool:
        streams = list(pool.map(lambda _: list(runtime.stream(prepared)), range(4)))
    for found in streams:
        for ours, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours.vectors, wanted.vectors, atol=1e-6)


def test_leaving_packed_rows_leaves_the_vectors(config, prepared):
    runtime = TorchRuntime(config, "float32", "cpu", packed=True)
    expected = [runtime.run(*batch).vectors for batch in prepared]
    without_packing(runtime._model)
    runtime._offset = None
    for batch, wanted in zip(prepared, expected, strict=True):
        np.testing.assert_allclose(runtime.run(*batch).vectors, wanted, atol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_many_windows_equal_one_by_one(config, packed, monkeypatch):
    monkeypatch.setattr(encoder_module, "_WINDOW", 64)
    texts = [f"text {n} " + "and more of it " * (n % 7) for n in range(150)]
    runtime = TorchRuntime(config, "float32", "cpu", packed=packed)
    encoder = Encoder("bert", config, lambda _: runtime)
    done: list[int] = []
    encoded = encoder.encode_documents([*texts, texts[3]], done.append)
    assert sum(done) == len(texts) + 1
    assert np.array_equal(encoded.vectors[-1], encoded.vectors[3])
    for i in (0, 1, 63, 64, 127, 128, 149):
        alone = encoder.encode_queries([texts[i]])
        np.testing.assert_allclose(alone.vectors[0], encoded.vectors[i], atol=2e-6)
        assert alone.tokens[0] == encoded.tokens[i]


@pytest.mark.parametrize("kind", ["bert-dense", "mpnet"])
def test_cuda_gives_the_vectors_of_the_cpu(tmp_path, kind):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("NO CUDA DEVICE HERE: ENCODING ON A GPU IS NOT TESTED")
    config = read_folder(models.build(kind, tmp_path))
    texts = [f"text {n} " + "and more of it " * (n % 7) for n in range(4500)]
    runtimes = [
        TorchRuntime(config, precision, device)
        for precision, device in (("float32", "cpu"), ("fp16", "cuda"), ("bf16", "cuda"))
    ]
    expected, half, brain = (
        Encoder(kind, config, partial(lambda runtime, _: runtime, runtime))
        .encode_documents(texts)
        .vectors
        for runtime in runtimes
    )
    assert (half * expected).sum(axis=1).min() > 0.9999
    assert (brain * expected).sum(axis=1).min() > 0.995
    assert runtimes[1].packs == (kind == "bert-dense")
