"""Token vectors on torch: packed or padded, in streams, split, overflowed and from processes."""

import numpy as np
import pytest

from semsearch.encoders.batching import batches, padded
from semsearch.encoders.folder import read_folder
from semsearch.encoders.runtimes.contract import Batch, Output
from semsearch.encoders.runtimes.devices import DevicesRuntime
from semsearch.encoders.runtimes.packed import kept_positions
from semsearch.encoders.runtimes.torch import TorchRuntime
from semsearch.encoders.tokens import Tokens
from tests import models
from tests.test_torch_stream import Narrow


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return read_folder(models.build("bert-cls", tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def prepared(config):
    """Batches of many sizes, with some of their tokens to be kept."""
    tokens = Tokens(config)
    rows = [row.ids for row in tokens.tokenize(models.TEXTS)]
    made: list[Batch] = []
    for group in batches([len(row) for row in rows], 160, 1):
        batch = padded([rows[i] for i in group], tokens.pad_id, 1, config.max_length)
        some = np.random.default_rng(len(made)).random(batch.ids.shape) < 0.7
        made.append(batch._replace(keep=some & (batch.mask == 1)))
    return made


@pytest.fixture(scope="module")
def expected(config, prepared):
    """The library's own token embeddings of those tokens, text by text, of unit length."""
    import torch

    model = TorchRuntime(config, "float32", "cpu")._model
    found = []
    for batch in prepared:
        parts = []
        for ids, mask, keep in zip(*batch, strict=True):
            length = mask.sum()
            features = {
                "input_ids": torch.from_numpy(ids[None, :length]),
                "attention_mask": torch.ones((1, int(length)), dtype=torch.int64),
            }
            with torch.inference_mode():
                parts.append(model(features)["token_embeddings"][0].numpy()[keep[:length]])
        rows = np.concatenate(parts)
        found.append(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    return found


def check(outputs, expected, lowest=0.99999):
    outputs = list(outputs)
    assert len(outputs) == len(expected)
    for output, rows in zip(outputs, expected, strict=True):
        assert isinstance(output, Output)
        assert output.tokens is not None
        assert output.tokens.shape == rows.shape
        assert (output.tokens * rows).sum(axis=1).min(initial=1) > lowest


def test_positions_of_kept_tokens():
    mask = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0]])
    keep = np.array([[0, 1, 0], [1, 0, 0], [0, 1, 0]], bool)
    assert kept_positions(keep, mask, packed=False).tolist() == [1, 3, 7]
    assert kept_positions(keep, mask, packed=True).tolist() == [1, 3, 5]


@pytest.mark.parametrize("packed", [False, True])
def test_streams_and_single_batches(config, prepared, expected, packed):
    runtime = TorchRuntime(config, "float32", "cpu", packed=packed)
    assert runtime.packs == packed
    check(runtime.stream(iter(prepared)), expected)
    check([runtime.run(*batch) for batch in prepared], expected)
    without = [runtime.run(batch.ids, batch.mask) for batch in prepared]
    for batch, plain in zip(prepared, without, strict=True):
        assert plain.tokens is None
        np.testing.assert_array_equal(runtime.run(*batch).vectors, plain.vectors)


def test_the_way_back_from_cuda_is_in_half_precision(config, prepared, expected):
    import torch

    runtime = TorchRuntime(config, "float32", "cpu")
    runtime._token_type = torch.float16
    outputs = list(runtime.stream(prepared))
    assert all(o.tokens is not None and o.tokens.dtype == np.float16 for o in outputs)
    check(outputs, expected, 0.999)


@pytest.mark.parametrize("packed", [False, True])
def test_batches_are_split_where_memory_ends(config, prepared, expected, packed):
    runtime = Narrow(config, "float32", "cpu", packed=packed)
    runtime.room, runtime.sizes = 50, []
    check(runtime.stream(iter(prepared)), expected)
    assert max(runtime.sizes) <= 50


def test_tokens_that_overflow_in_fp16(config, prepared, expected):
    import torch

    class Overflowing(TorchRuntime):
        """Half precision has no room for some tokens, although it has for all texts."""

        def _computed(self, features, kept=None):
            found = super()._computed(features, kept)
            if self.precision == "fp16" and kept is not None:
                found[1] = torch.where(found[1] == found[1].max(), torch.nan, found[1])
            return found

    runtime = Overflowing(config, "fp16", "cpu")
    check(runtime.stream(iter(prepared)), expected)
    assert runtime.precision == "float32"


def test_from_processes(config, prepared, expected):
    runtime = DevicesRuntime(config, "float32", ["cpu", "cpu"], patience=0)
    try:
        check(runtime.stream(iter(prepared * 2)), expected * 2)
        assert len(runtime._workers) == 2
    finally:
        runtime.close()


def test_on_cuda(config, prepared, expected):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("NO CUDA DEVICE HERE: TOKEN VECTORS FROM A GPU ARE NOT TESTED")
    for packed in (False, True):
        runtime = TorchRuntime(config, "fp16", "cuda", packed=packed)
        check(runtime.stream(iter(prepared)), expected, 0.999)
