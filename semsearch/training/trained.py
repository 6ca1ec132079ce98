"""What is known of a finished run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semsearch.training.checks import Finding
from semsearch.training.recipe import Recipe
from semsearch.training.tables import to_table


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run: where its model lies, and what was found on the way.

    ``before`` and ``after`` are the evaluations' measures by name, of the base and of the model
    that was kept; ``best_step`` is the step of that one, None for the last; ``resumed_from`` the
    step that this process began at; ``notices`` say what the machine could not do as the recipe
    wants it; ``seconds`` count this process alone. ``already`` says that it was done before.
    """

    folder: Path
    recipe: Recipe
    before: dict[str, float]
    after: dict[str, float]
    findings: tuple[Finding, ...]
    notices: tuple[str, ...]
    rows: int
    steps: int
    best_step: int | None
    resumed_from: int
    seconds: float
    already: bool = False

    def to_json(self) -> dict[str, Any]:
        """The run as plain JSON values; what ``training.json`` holds."""
        return {
            "recipe": to_table(self.recipe),
            "before": _without_nan(self.before),
            "after": _without_nan(self.after),
            "checks": [finding.to_json() for finding in self.findings],
            "notices": list(self.notices),
            "rows": self.rows,
            "steps": self.steps,
            "best_step": self.best_step,
            "resumed_from": self.resumed_from,
            "seconds": round(self.seconds, 3),
        }

    @classmethod
    def from_facts(cls, folder: Path, recipe: Recipe, facts: Mapping[str, Any]) -> Trained:
        """A run that was finished before, as it was noted in the model's folder."""
        return cls(
            folder, recipe, _with_nan(facts["before"]), _with_nan(facts["after"]),
            tuple(map(Finding.from_json, facts["checks"])), tuple(facts["notices"]),
            facts["rows"], facts["steps"], facts["best_step"], facts["resumed_from"],
            facts["seconds"], already=True,
        )  # fmt: skip


def _without_nan(found: Mapping[str, float]) -> dict[str, float | None]:
    """Measures as JSON has them: what could not be computed is null."""
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _with_nan(found: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in found.items()}
