"""What a training run came to, for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from semsearch.evaluation.columns import count

if TYPE_CHECKING:
    from semsearch.training.trained import Trained

_MAIN = (
    "ndcg@10",
    "mrr@10",
    "accuracy@1",
    "spearman_cosine",
    "cosine_ap",
    "cosine_accuracy",
    "loss",
)
"""The measures that are shown; all are in the card and in training.json."""


def main_measures(found: Mapping[str, float]) -> list[str]:
    """The names that a table shows, in their order."""
    return [name for name in found if name.endswith(_MAIN)] or list(found)


def outcome_lines(trained: Trained, mark: Callable[[str], str]) -> list[str]:
    """What was trained and measured: a table of before and after, and where the model is."""
    lines = [str(finding) for finding in trained.findings]
    names = main_measures(trained.after)
    width = max([len(name) for name in names], default=0)
    if names:
        lines.append(mark(f"{'measure':<{width}}  before   after  change"))
    for name in names:
        before, after = trained.before.get(name, float("nan")), trained.after[name]
        lines.append(f"{name:<{width}}  {before:6.4f}  {after:6.4f} {after - before:+7.4f}")
    rows, steps = count(trained.rows, "row"), count(trained.steps, "step")
    best = "" if trained.best_step is None else f", the best at step {trained.best_step:,} kept"
    if trained.already:
        lines.append(f"{trained.folder}: trained before by this recipe on these rows ({steps})")
    else:
        again = f" (from step {trained.resumed_from:,} on)" if trained.resumed_from else ""
        lines.append(
            f"{trained.folder}: {steps} on {rows} in {trained.seconds:,.0f} s{again}{best};"
            f" semsearch index CORPUS -m {trained.folder}"
        )
    return lines
