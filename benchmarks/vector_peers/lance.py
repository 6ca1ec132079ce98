"""LanceDB: inverted lists of RaBitQ codes in a table on disk, rescored from its full vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.vector_peers.contract import Neighbours

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints

_REFINE = 10
_BLOCK = 65_536


class Lance(Neighbours):
    """``IVF_RQ`` by cosine with its own number of partitions; ``nprobes`` is tuned."""

    package = "lancedb"
    kind = f"IVF_RQ, refine_factor {_REFINE}"
    settings = (2, 4, 8, 16, 32, 64, 128, 256)

    def load(self) -> None:
        import lancedb
        import pyarrow

        self._arrow: Any = pyarrow
        self._database: Any = lancedb.connect(self.folder)
        self._probes = self.settings[0]

    def build(self) -> None:
        from lancedb.index import IvfRq

        table = self._database.create_table("rows", self._batches(), schema=self._schema())
        table.create_index("vector", config=IvfRq(distance_type="cosine"))

    def _schema(self) -> Any:
        vector = self._arrow.list_(self._arrow.float32(), self.vectors.shape[1])
        return self._arrow.schema([("row", self._arrow.int64()), ("vector", vector)])

    def _batches(self) -> Any:
        schema = self._schema()
        for start in range(0, len(self.vectors), _BLOCK):
            block = self.vectors[start : start + _BLOCK]
            flat = self._arrow.array(np.ascontiguousarray(block).ravel())
            vectors = self._arrow.FixedSizeListArray.from_arrays(flat, block.shape[1])
            rows = self._arrow.array(np.arange(start, start + len(block)))
            yield self._arrow.record_batch([rows, vectors], schema=schema)

    def open(self) -> None:
        self._table = self._database.open_table("rows")

    def choose(self, setting: int) -> None:
        self._probes = setting

    def search(self, query: Floats, k: int) -> Ints:
        asked = self._table.search(query).distance_type("cosine").nprobes(self._probes)
        found = asked.refine_factor(_REFINE).select(["row", "_distance"]).limit(k).to_arrow()
        rows: Ints = found["row"].to_numpy()
        return rows
