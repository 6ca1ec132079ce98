"""Whether one index may take the place of another: compared as users ask it, and by vectors alone.

Words are the same in both, and can hide what the vectors lost: so both ways are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from semsearch.corpus import BeirDataset
from semsearch.evaluation.comparing import compare
from semsearch.evaluation.comparison import Comparison
from semsearch.evaluation.report import SIGNIFICANT
from semsearch.evaluation.systems import short_names
from semsearch.metrics import holm
from semsearch.search.facade import Index


@dataclass(frozen=True, slots=True)
class Replacement:
    """The new index against the old one, which is the baseline: as served, and dense alone."""

    served: Comparison
    dense: Comparison

    def worse(self) -> str | None:
        """A line that says in which way the new one is worse, beyond chance; None if in neither.

        By the first measure; p is corrected (Holm) for the two ways.
        """
        ways = (self.served, self.dense)
        measure = self.served.measures[0]
        found = [way.systems[1].differences[measure] for way in ways]
        corrected = holm([change.p for change in found])
        for way, change, p in zip(ways, found, corrected, strict=True):
            if p < SIGNIFICANT and change.difference < 0:
                old, new = (system.name for system in way.systems)
                return f"{new} is worse than {old}: {measure} {change.difference:+.4f}, p {p:.3g}"
        return None

    def to_json(self) -> dict[str, Any]:
        """Both comparisons as plain JSON values."""
        return {"served": self.served.to_json(), "dense": self.dense.to_json()}


def compare_indexes(
    old: Index,
    new: Index,
    labelled: BeirDataset,
    measures: Sequence[str],
    on_run: Callable[[], None] | None = None,
) -> Replacement:
    """Compare two indexes of the same documents on labelled queries, in both ways.

    ``on_run`` is called after each of the four rankings. Raises as ``compare``.
    """
    rows = [index.reader.snapshot().encoder for index in (old, new)]
    names = short_names([row.name if row else "-" for row in rows])
    if names[0] == names[1]:
        names = [f"{names[0]} (old)", f"{names[1]} (new)"]

    def told(*_: object) -> None:
        if on_run is not None:
            on_run()

    served = compare(
        dict(zip(names, (old, new), strict=True)), labelled, measures=measures, on_run=told
    )
    dense = compare(
        {f"{name}, dense": (index, "dense") for name, index in zip(names, (old, new), strict=True)},
        labelled,
        measures=measures,
        on_run=told,
    )
    return Replacement(served, dense)
