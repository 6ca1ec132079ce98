"""A verdict's records: two models, row by row, and the words for what was found."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from semsearch.corpus import BeirDataset
from semsearch.evaluation.columns import Interval
from semsearch.evaluation.comparison import Difference, Moved, moved_queries
from semsearch.evaluation.pipelines import Pipeline
from semsearch.evaluation.report import SIGNIFICANT
from semsearch.metrics import Evaluation
from semsearch.types import Run

Word: TypeAlias = Literal["BETTER", "NO DIFFERENCE", "WORSE"]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two models: its name or folder, the index of the corpus by it, its full width.

    ``missing_documents`` counts the relevant documents that the corpus lacks; ``tuned_ranking``
    says that ``semsearch tune`` has set how this index ranks.
    """

    model: str
    index: Path
    dims: int
    missing_documents: int
    tuned_ranking: bool

    def to_json(self) -> dict[str, Any]:
        """The model as plain JSON values."""
        return {
            "model": self.model,
            "dims": self.dims,
            "missing_documents": self.missing_documents,
            "tuned_ranking": self.tuned_ranking,
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """What one model is worth in one row: the mean with its 95 % interval.

    ``kept`` is the share of the mean at the model's own full width, None for the default pipeline
    and where that is 0. ``evaluation`` has the values per query, ``run`` the ranking.
    """

    pipeline: Pipeline
    mean: float
    interval: Interval
    kept: float | None
    evaluation: Evaluation = field(compare=False, repr=False)
    run: Run = field(compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The values as plain JSON."""
        return {
            "dims": self.pipeline.dims,
            "mean": self.mean,
            "interval": list(self.interval),
            "kept": self.kept,
        }


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """Both models in one pipeline: ``change`` is the tuned one's difference from the base."""

    base: Standing
    tuned: Standing
    change: Difference

    @property
    def name(self) -> str:
        """``dense@384``, ``dense@128 against dense@384`` where full widths differ, ``hybrid``."""
        mode, dims = self.tuned.pipeline.mode, self.tuned.pipeline.dims
        if mode != "dense":
            return mode
        other = self.base.pipeline.dims
        return f"dense@{dims}" + (f" against dense@{other}" if other != dims else "")

    @property
    def word(self) -> Word:
        """By the corrected p and the sign of the difference."""
        if self.change.p_holm >= SIGNIFICANT:
            return "NO DIFFERENCE"
        return "BETTER" if self.change.difference > 0 else "WORSE"

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        return {
            "pipeline": self.name,
            "mode": self.tuned.pipeline.mode,
            "base": self.base.to_json(),
            "tuned": self.tuned.to_json(),
            **self.change.to_json(),
            "verdict": self.word,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """The rows, dense at full width first and the default pipeline last, and what they are of.

    ``queries`` counts those in the means, ``skipped`` those left out because nothing is relevant.
    """

    rows: tuple[VerdictRow, ...]
    base: Side
    tuned: Side
    measure: str
    queries: int
    skipped: int
    split: str
    version: str
    dataset: BeirDataset = field(compare=False, repr=False)

    @property
    def word(self) -> Word:
        """The overall word: that of the first row, dense at full width against full width.

        Training changes the vectors, and that row shows nothing else; it was chosen before the
        numbers were known. The other rows say where more or less came of it.
        """
        return self.rows[0].word

    @property
    def worse(self) -> bool:
        """Whether any row is WORSE: what a gate must not let through."""
        return any(row.word == "WORSE" for row in self.rows)

    def moved(self, row: VerdictRow, most: int | None = None) -> list[Moved]:
        """The queries that gained most from base to tuned, then those that lost most.

        At most ``most`` of each, the largest change first.
        """
        pair = row.base.evaluation, row.tuned.evaluation
        return moved_queries(self.dataset, pair, self.measure, most)

    def to_json(self, moved: int = 10) -> dict[str, Any]:
        """The verdict as plain JSON values, with ``moved`` queries each way in every row."""
        rows = [
            {**row.to_json(), "moved": [m.to_json() for m in self.moved(row, moved)]}
            for row in self.rows
        ]
        return {
            "verdict": self.word,
            "measure": self.measure,
            "queries": self.queries,
            "skipped": self.skipped,
            "split": self.split,
            "version": self.version,
            "base": self.base.to_json(),
            "tuned": self.tuned.to_json(),
            "rows": rows,
        }

    def __str__(self) -> str:
        """The table and its notes, without markings."""
        from semsearch.training.verdict_table import verdict_lines

        return "\n".join(verdict_lines(self))
