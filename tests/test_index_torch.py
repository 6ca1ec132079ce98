"""Exact search by PyTorch against the exact index, number by number; and what needs a GPU."""

import numpy as np
import pytest

from semsearch.errors import MissingExtra
from semsearch.index import gpu
from semsearch.index.contract import ArrayRows
from semsearch.index.exact import ExactIndex
from semsearch.index.gpu import open_gpu_index
from semsearch.index.torch_index import TorchIndex
from tests.test_index_contract import check, clustered, rows_of

N, DIM = 3000, 48


@pytest.fixture(scope="module")
def rows():
    vectors = clustered(N)
    vectors[100:140] = vectors[100]  # ties, and a zero row
    vectors[7] = 0
    return rows_of(vectors)


@pytest.fixture(scope="module")
def queries(rows):
    return np.concatenate([clustered(300, seed=2), rows.take(np.array([100, 7]))])


def same(found, wanted):
    assert np.array_equal(found.ids, wanted.ids)
    assert np.array_equal(found.scores, wanted.scores)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("block_rows", [256, N + 1])
def test_it_is_the_exact_index(dtype, block_rows, queries):
    rows = rows_of(clustered(N, seed=3), dtype)
    exact, index = ExactIndex(rows), TorchIndex(rows, "cpu", budget=10**9, block_rows=block_rows)
    some = np.random.default_rng(1).random(N) < 0.4
    for k, dims, allowed in [(10, DIM, None), (100, 20, some), (1, 1, None), (N, DIM, some)]:
        asked = queries[:, :dims] if k < N else queries[:3]
        same(index.search(asked, k, allowed), exact.search(asked, k, allowed))


def test_ties_beyond_what_is_proposed_are_resolved(rows, monkeypatch):
    calls = []
    search = ExactIndex.search

    def counted(self, queries, k, allowed=None):
        calls.append(len(queries))
        return search(self, queries, k, allowed)

    vectors = rows.take(np.arange(N))
    vectors[500:1500] = vectors[500]
    tied = rows_of(vectors)
    asked = np.concatenate([vectors[500:501], clustered(4, seed=5)])
    wanted = ExactIndex(tied).search(asked, 20)
    monkeypatch.setattr(ExactIndex, "search", counted)
    same(TorchIndex(tied, "cpu", budget=0, block_rows=700).search(asked, 20), wanted)
    assert calls == [1], "only the tied query is searched again"
    assert wanted.ids[0].tolist() == tied.ids[500:520].tolist()


def test_blocks_stay_within_the_budget(rows, queries):
    wanted = ExactIndex(rows).search(queries, 10)
    block = 500 * DIM * 2
    for budget, kept in ((0, 0), (2 * block + 1, 2), (10**9, 6)):
        index = TorchIndex(rows, "cpu", budget=budget, block_rows=500)
        assert len(index._kept) == 0
        for _ in range(2):
            same(index.search(queries, 10), wanted)
            assert len(index._kept) == kept
            assert sum(part.nbytes for part in index._kept.values()) <= budget


def test_a_read_only_map_is_searched(tmp_path, rows, queries):
    np.save(tmp_path / "rows.npy", rows.block(0, N))
    mapped = ArrayRows(rows.ids, np.load(tmp_path / "rows.npy", mmap_mode="r"))
    found = TorchIndex(mapped, "cpu", budget=10**9).search(queries, 5)
    same(found, ExactIndex(rows).search(queries, 5))


def test_coarser_products_only_widen_the_margin(rows, queries, monkeypatch):
    import torch

    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    index = TorchIndex(rows, "cpu", budget=10**9)
    same(index.search(queries[:20], 10), ExactIndex(rows).search(queries[:20], 10))


def test_without_a_gpu_there_is_no_such_index(rows, monkeypatch):
    import torch

    monkeypatch.setattr(gpu, "sees_nvidia", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", pytest.fail)
    assert open_gpu_index(rows) is None
    monkeypatch.undo()
    monkeypatch.setattr(gpu, "sees_nvidia", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert open_gpu_index(rows) is None


@pytest.fixture
def pretended(monkeypatch):
    """A CUDA device, as far as choosing goes, with a little more memory than the encoder's."""
    import torch

    monkeypatch.setattr(gpu, "sees_nvidia", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (gpu.ENCODER_BYTES + 77, 1 << 40))


def test_the_encoder_keeps_its_share_of_the_memory(rows, pretended):
    index = open_gpu_index(rows)
    assert isinstance(index, TorchIndex)
    assert (index.device, index._free) == ("cuda", 77)


def test_kinds_of_faiss_gpu_need_it(rows, pretended):
    faiss = pytest.importorskip("faiss", reason="FAISS is not installed: its kinds are NOT tested")
    if hasattr(faiss, "StandardGpuResources"):
        pytest.skip("THIS IS faiss-gpu: that it is missed elsewhere is NOT tested")
    with pytest.raises(MissingExtra, match=r"'IVF16,Flat' on a GPU needs faiss-gpu: pip install"):
        open_gpu_index(rows, "IVF16,Flat")


def test_exact_search_on_a_gpu(rows, queries):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("NO CUDA DEVICE HERE: SEARCHING ON A GPU IS NOT TESTED")
    index = open_gpu_index(rows)
    assert isinstance(index, TorchIndex)
    for k, allowed in ((10, None), (100, np.arange(N) % 3 == 0), (N, None)):
        same(index.search(queries, k, allowed), ExactIndex(rows).search(queries, k, allowed))
    streamed = TorchIndex(rows, "cuda", budget=0, block_rows=700)
    same(streamed.search(queries, 10), ExactIndex(rows).search(queries, 10))


@pytest.mark.parametrize("kind", ["Flat", "IVF16,Flat", "CAGRA"])
def test_faiss_on_a_gpu(rows, kind):
    import torch

    faiss = pytest.importorskip("faiss", reason="FAISS is not installed: faiss-gpu is NOT tested")
    if not torch.cuda.is_available() or not hasattr(faiss, "StandardGpuResources"):
        pytest.skip("NO CUDA DEVICE WITH faiss-gpu HERE: ITS INDEXES ARE NOT TESTED")
    if kind == "CAGRA" and not hasattr(faiss, "GpuIndexCagra"):
        pytest.skip("THIS faiss-gpu HAS NO CAGRA: IT IS NOT TESTED")
    index = open_gpu_index(rows, kind)
    assert index is not None
    assert index.kind == kind
    asked = clustered(20, seed=9)
    check(rows, asked, 10, index.search(asked, 10), floor=1.0 if kind == "Flat" else 0.9)
    allowed = np.arange(N) % 2 == 0
    check(rows, asked, 10, index.search(asked, 10, allowed), allowed)
