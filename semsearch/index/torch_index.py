"""Exact search by PyTorch on a device: every row is compared there, and the best are scored here.

Rows stay as they are stored (float16 takes 2 bytes a dimension). Blocks are copied to the device
as a search first reaches them and stay there while its share of memory lasts; the others are
copied again for every search. Float32 products on the device only choose, with the margin that
``scoring`` explains, so results are those of the exact index, number by number.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from semsearch.index.contract import Rows
from semsearch.index.exact import ExactIndex
from semsearch.index.scoring import checked, cosines
from semsearch.types import Candidates
from semsearch.vectors import empty_candidates, rank

if TYPE_CHECKING:
    import torch

    from semsearch.types import Bools, Floats, Ints

_QUERIES = 256
_BLOCK = 262_144
_SPARE = 64
"""Rows beyond k that are looked at, so that near ties at the k-th place are all among them."""

_MARGIN_TF32 = 2.0**-8


class TorchIndex:
    """Compares each query with every (allowed) row on ``device``; see VectorIndex for the rules.

    ``budget`` is how many bytes of the device's memory the rows may keep; beyond it a search needs
    room for one block and its scores (about 1 GB for 384 dimensions).
    """

    def __init__(self, rows: Rows, device: str, *, budget: int, block_rows: int = _BLOCK) -> None:
        self.rows = rows
        self.device = device
        self._exact = ExactIndex(rows)
        self._free = budget
        self._size = block_rows
        self._kept: dict[int, torch.Tensor] = {}
        self._norms: dict[tuple[int, int], torch.Tensor] = {}
        self._lock = threading.Lock()

    @property
    def kind(self) -> str:
        """``exact``."""
        return "exact"

    def search(self, queries: ArrayLike, k: int, allowed: Bools | None = None) -> Candidates:
        """The k best rows for each query, as VectorIndex says."""
        unit_queries, mask = checked(self.rows, queries, k, allowed)
        result = empty_candidates(len(unit_queries), k)
        if k == 0 or not len(self.rows):
            return result
        for start in range(0, len(unit_queries), _QUERIES):
            some = unit_queries[start : start + _QUERIES]
            found = self._search(some, k, mask)
            result.ids[start : start + len(some)] = found.ids
            result.scores[start : start + len(some)] = found.scores
        return result

    def _search(self, queries: Floats, k: int, mask: Bools | None) -> Candidates:
        rough, ordinals = self._proposed(queries, k + _SPARE, mask)
        # Sure are the queries for which some row was proposed that cannot be among the k best.
        sure = np.ones(len(queries), dtype=np.bool_)
        if rough.shape[1] > k and rough.shape[1] < len(self.rows):
            sure = rough[:, -1] < rough[:, k - 1] - _margin(queries.shape[1])
            sure |= rough[:, -1] == -np.inf
        query, column = np.nonzero((rough > -np.inf) & sure[:, None])
        some = ordinals[query, column]
        scores = cosines(queries, query, self.rows.take(some))
        result = rank(query, self.rows.ids[some], scores, len(queries), k)
        tied = np.flatnonzero(~sure)
        if len(tied):
            exact = self._exact.search(queries[tied], k, mask)
            result.ids[tied], result.scores[tied] = exact.ids, exact.scores
        return result

    def _proposed(self, queries: Floats, count: int, mask: Bools | None) -> tuple[Floats, Ints]:
        """Float32 scores and ordinals ``(Q, min(count, n))``, best first; -inf is not allowed."""
        import torch

        dims = queries.shape[1]
        with torch.inference_mode():
            asked = torch.from_numpy(queries).to(self.device)
            values = torch.empty((len(queries), 0), device=self.device)
            places = torch.empty((len(queries), 0), dtype=torch.int64, device=self.device)
            for number, block in self._blocks():
                start = number * self._size
                scores = asked @ block[:, :dims].float().T
                scores *= self._inverse_norms(number, block, dims)
                if mask is not None:
                    barred = torch.from_numpy(~mask[start : start + len(block)]).to(self.device)
                    scores.masked_fill_(barred, -torch.inf)
                best, where = scores.topk(min(count, len(block)), dim=1)
                values = torch.cat((values, best), dim=1)
                places = torch.cat((places, where + start), dim=1)
                if values.shape[1] > count:
                    values, order = values.topk(count, dim=1)
                    places = places.gather(1, order)
            return values.cpu().numpy(), places.cpu().numpy()

    def _blocks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Every block of rows on the device, with its number."""
        for number in range(-(-len(self.rows) // self._size)):
            block = self._kept.get(number)
            yield number, self._copied(number) if block is None else block

    def _copied(self, number: int) -> torch.Tensor:
        """A block, copied to the device, and kept there if there is room."""
        import torch

        start = number * self._size
        stored = self.rows.block(start, min(start + self._size, len(self.rows)))
        half = stored.dtype == np.float16
        host = torch.empty(
            stored.shape,
            dtype=torch.float16 if half else torch.float32,
            pin_memory=self.device.startswith("cuda"),
        )
        host.numpy()[...] = stored
        block = host.to(self.device, non_blocking=True)
        with self._lock:
            if number not in self._kept and block.nbytes <= self._free:
                self._free -= block.nbytes
                self._kept[number] = block
        return block

    def _inverse_norms(self, number: int, block: torch.Tensor, dims: int) -> torch.Tensor:
        """One over the length of each row's first ``dims``, 0 for a zero prefix; kept."""
        known = self._norms.get((number, dims))
        if known is None:
            lengths = block[:, :dims].float().norm(dim=1)
            known = self._norms[number, dims] = lengths.reciprocal().nan_to_num(posinf=0.0)
        return known


def _margin(dims: int) -> float:
    """How far a product on the device may be off, for a row and for the k-th, as in ``scoring``."""
    import torch

    exact = torch.get_float32_matmul_precision() == "highest"
    return 4 * (dims + 8) * 2.0**-24 + (0.0 if exact else _MARGIN_TF32)
