"""Mining hard negatives: documents that rank high for a query and are not known to answer it.

queries + judgements -> rankings without positives -> ranks, margins, caps, a cross-encoder -> rows
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.lazy import lazy_names

if TYPE_CHECKING:
    from semsearch.training.mining.report import MiningReport
    from semsearch.training.mining.run import Miner, mine
    from semsearch.training.mining.settings import Mining

__all__ = ["Miner", "Mining", "MiningReport", "mine"]

__getattr__ = lazy_names(
    __name__,
    {"Miner": ".run", "Mining": ".settings", "MiningReport": ".report", "mine": ".run"},
)
