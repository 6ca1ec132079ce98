"""What an index searches (Rows) and what every index offers (VectorIndex).

A row's *ordinal* is its position among the rows; its *id* is the passage id (vid) that results
carry. Scores are the cosine of the first d dimensions, both sides re-normalised; higher is better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semsearch.errors import InputError, UsageError
from semsearch.types import Candidates
from semsearch.vectors import widen

if TYPE_CHECKING:
    from semsearch.types import Bools, Floats, Ints


class Rows(Protocol):
    """Vectors to be searched: finite, about unit length, never changed while in use."""

    @property
    def ids(self) -> Ints:
        """int64 ``(n,)``, strictly ascending."""
        ...

    @property
    def dim(self) -> int:
        """The width of every vector."""
        ...

    def __len__(self) -> int:
        """The number of rows, n."""
        ...

    def block(self, start: int, stop: int) -> NDArray[np.float16] | Floats:
        """Rows ``start`` to ``stop`` as they are stored, ``(stop - start, dim)``; not copied."""
        ...

    def take(self, ordinals: Ints) -> Floats:
        """The rows at ``ordinals`` (int64 ``(m,)``, any order) as float32 ``(m, dim)``."""
        ...


class ArrayRows:
    """Rows held in memory: ``ids`` int64 ``(n,)`` ascending, ``vectors`` ``(n, dim)``.

    Float16 and float32 are kept as they are (a memory map stays one), anything else becomes
    float32. Raises UsageError for shapes or ids that do not fit, InputError for NaN or infinity.
    """

    def __init__(self, ids: ArrayLike, vectors: ArrayLike) -> None:
        self._ids = np.asarray(ids, dtype=np.int64)
        array = np.asanyarray(vectors)
        if array.dtype not in (np.float16, np.float32):
            array = array.astype(np.float32)
        if array.ndim != 2 or self._ids.shape != array.shape[:1]:
            raise UsageError(
                f"{self._ids.shape} ids do not fit vectors of shape {array.shape}: (n,) and (n, d)"
            )
        if np.any(self._ids[1:] <= self._ids[:-1]):
            raise UsageError("the ids of an index must ascend, each only once")
        for start in range(0, len(array), 8192):
            if not np.isfinite(array[start : start + 8192]).all():
                raise InputError("a vector of the index holds NaN or infinity")
        self._vectors = array

    @property
    def ids(self) -> Ints:
        """int64 ``(n,)``, strictly ascending."""
        return self._ids

    @property
    def dim(self) -> int:
        """The width of every vector."""
        return int(self._vectors.shape[1])

    def __len__(self) -> int:
        return len(self._ids)

    def block(self, start: int, stop: int) -> NDArray[np.float16] | Floats:
        """A view of rows ``start`` to ``stop``."""
        return self._vectors[start:stop]

    def take(self, ordinals: Ints) -> Floats:
        """A float32 copy of the rows at ``ordinals``."""
        return widen(self._vectors[ordinals])


class VectorIndex(Protocol):
    """Every index: exact or approximate, it returns exact scores and never fewer than it could.

    ``search`` takes float ``(Q, d)`` queries of any layout with ``1 <= d <= dim`` and returns
    ``(Q, k)`` Candidates with min(k, number allowed) ids each, padded beyond. ``allowed`` is a
    bool mask over ordinals, ``(n,)``; None allows all. An all-zero query scores 0 everywhere.
    Raises InputError for NaN or infinity, UsageError for other shapes or a negative ``k``.
    Safe to call from several threads at once.
    """

    @property
    def kind(self) -> str:
        """What it is: ``exact`` or a FAISS factory string."""
        ...

    def search(self, queries: ArrayLike, k: int, allowed: Bools | None = None) -> Candidates:
        """The k best rows for each query."""
        ...
