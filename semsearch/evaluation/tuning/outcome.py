"""What tuning found: the choice, its gain on queries held out, and what may be claimed of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from semsearch.evaluation.columns import (
    Cell,
    Column,
    align,
    count,
    number,
    p_is,
    signed,
    signed_bounds,
    words,
)
from semsearch.evaluation.tuning.choosing import Validated
from semsearch.evaluation.tuning.grid import changes
from semsearch.metrics import PairedTest
from semsearch.ranking.settings import DEFAULT_RANKING, Ranking


@dataclass(frozen=True, slots=True)
class FoldResult:
    """One fold: what the other queries chose, and the means of its own, the default's beside it."""

    ranking: Ranking
    queries: int
    learned: float
    learned_default: float
    held_out: float
    held_out_default: float


@dataclass(frozen=True, slots=True)
class Tuned:
    """What tuning found on ``queries`` labelled queries; all means are of ``measure``.

    ``chosen`` is what all queries choose, ``chosen_mean`` its mean on the same queries, so it is
    flattered; ``held_out_mean`` is that of the choices on queries they did not see, ``gain`` its
    difference to the default with its 95 % interval, widened for the folds. ``stored`` says whether
    the index ranks so.
    """

    measure: str
    split: str
    queries: int
    skipped: int
    settings: int
    chosen: Ranking
    default_mean: float
    chosen_mean: float
    held_out_mean: float
    gain: PairedTest
    folds: tuple[FoldResult, ...]
    stored: bool = False

    @property
    def chosen_is_new(self) -> bool:
        """Whether the choice is another ranking than the default."""
        return self.chosen != DEFAULT_RANKING

    @property
    def supported(self) -> bool:
        """Whether the labels support a gain: the interval lies above 0, and there is a choice."""
        return self.gain.low > 0 and self.chosen_is_new

    def to_json(self) -> dict[str, Any]:
        """The object that ``tune --json`` prints."""
        return {
            "measure": self.measure,
            "split": self.split,
            "queries": self.queries,
            "skipped": self.skipped,
            "settings": self.settings,
            "default": {"ranking": asdict(DEFAULT_RANKING), "mean": self.default_mean},
            "chosen": {"ranking": asdict(self.chosen), "mean": self.chosen_mean},
            "held_out": {
                "mean": self.held_out_mean,
                "gain": self.gain.difference,
                "interval": [self.gain.low, self.gain.high],
                "p": self.gain.p,
            },
            "folds": [asdict(fold) for fold in self.folds],
            "supported": self.supported,
            "stored": self.stored,
        }

    def __str__(self) -> str:
        """The table and what follows from it."""
        return "\n".join(tuned_lines(self))


def fold_results(found: Validated, settings: Sequence[Ranking]) -> tuple[FoldResult, ...]:
    """The folds with the settings that they chose instead of their numbers."""
    return tuple(
        FoldResult(
            settings[fold.setting],
            fold.queries,
            fold.learned,
            fold.learned_default,
            fold.held_out,
            fold.held_out_default,
        )
        for fold in found.folds
    )


def tuned_lines(found: Tuned, mark: Callable[[str], str] | None = None) -> list[str]:
    """The table: default, what each fold chose, what all choose; then gain and verdict."""
    names = ["default", *(str(n) for n in range(1, len(found.folds) + 1)), "all"]
    rankings = [DEFAULT_RANKING, *(fold.ranking for fold in found.folds), found.chosen]
    learned = [found.default_mean, *(fold.learned for fold in found.folds), found.chosen_mean]
    out: list[float | None] = [None, *(fold.held_out for fold in found.folds), found.held_out_mean]
    usual = [None, *(fold.held_out_default for fold in found.folds), found.default_mean]
    gains = [
        "" if o is None or u is None else signed(o - u) for o, u in zip(out, usual, strict=True)
    ]
    columns = [
        words("fold", names),
        Column("learned", [Cell(number(value)) for value in learned]),
        Column("held out", [Cell(number(value)) for value in out]),
        Column("gain", [Cell(gain) for gain in gains]),
        words("ranking", [describe(ranking) for ranking in rankings]),
    ]
    lines = [
        f"{found.measure} of {count(found.queries, 'query', 'queries')} of split {found.split},"
        f" {count(found.settings, 'setting')} tried",
        "learned: on the queries that the choice was made by, all but the fold's own; held out: on"
        " the fold's own",
    ]
    if found.skipped:
        left_out = count(found.skipped, "query", "queries")
        lines.append(f"{left_out} left out: no document is judged relevant")
    return [*align(columns, mark), *lines, *verdict_lines(found)]


def verdict_lines(found: Tuned) -> list[str]:
    """The gain that was held out, and what it allows to claim."""
    gain = found.gain
    measured = (
        f"held-out gain over the default {signed(gain.difference)}"
        f"{signed_bounds((gain.low, gain.high))}, {p_is(gain.p)}"
    )
    if found.supported:
        return [measured]
    return [measured, "no gain that the labels support: the default stays"]


def describe(ranking: Ranking) -> str:
    """What a setting changes of the default, in one line."""
    found = changes(ranking)
    return ", ".join(f"{name} {value}" for name, value in found.items()) or "default"
