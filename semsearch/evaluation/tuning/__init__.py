"""Learning how to rank from labels: every setting scored, one chosen, its gain on queries held out.

queries -> candidates with all scores -> the value of each setting for each query -> the choice
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.lazy import lazy_names

if TYPE_CHECKING:
    from semsearch.evaluation.tuning.outcome import Tuned
    from semsearch.evaluation.tuning.run import Tuning, tune


__all__ = ["Tuned", "Tuning", "tune"]

__getattr__ = lazy_names(
    __name__,
    {"Tuned": ".outcome", "Tuning": ".run", "tune": ".run"},
)
