"""sqlite-vec: every vector compared, in SQLite.

It is loaded by ``apsw``: many builds of Python, this one perhaps, have an ``sqlite3`` that refuses
extensions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.vector_peers.contract import Neighbours

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints

_NEAREST = "SELECT rowid FROM rows WHERE vector MATCH ? AND k = ? ORDER BY distance"


class SqliteVec(Neighbours):
    """A ``vec0`` table of float32 vectors by cosine distance."""

    package = "sqlite-vec"
    kind = "vec0, every row, float32"

    def load(self) -> None:
        import apsw
        import sqlite_vec

        self._connect, self._extension = apsw.Connection, sqlite_vec.loadable_path()

    def _opened(self) -> Any:
        connection = self._connect(str(self.folder / "rows.db"))
        connection.enable_load_extension(True)
        connection.load_extension(self._extension)
        return connection

    def build(self) -> None:
        connection = self._opened()
        dim = self.vectors.shape[1]
        connection.execute(
            f"CREATE VIRTUAL TABLE rows USING vec0(vector float[{dim}] distance_metric=cosine)"
        )
        with connection:
            connection.executemany(
                "INSERT INTO rows(rowid, vector) VALUES (?, ?)",
                ((row, vector.tobytes()) for row, vector in enumerate(self.vectors)),
            )
        connection.close()

    def open(self) -> None:
        self._connection = self._opened()

    def search(self, query: Floats, k: int) -> Ints:
        found = self._connection.execute(_NEAREST, (query.tobytes(), k))
        return np.array([row for (row,) in found], np.int64)
