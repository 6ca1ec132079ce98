"""How far a training run is: a bar with ETA and loss on a terminal, its measures as notes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from semsearch.cli.output import note

if TYPE_CHECKING:
    from semsearch.training.watching import Watch

_SHOWN = 4
_FORMAT = "{desc} {n_fmt}/{total_fmt}{postfix}, {remaining} left, {rate_fmt} |{bar}|"
"""What matters first: on a narrow terminal the end is cut off."""


class _Told:
    """Tells measurements as notes; the first process of several only."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._quiet = int(os.environ.get("RANK", "0")) > 0

    def stage(self, name: str) -> None:
        if self._bar is not None:
            self._bar.set_description_str(name)
            self._bar.refresh()

    def step(self, done: int, total: int) -> None:
        if self._bar is None:
            return
        if self._bar.total != total:
            self._bar.reset(total)
            self._bar.initial = done - 1  # a resumed run is not that fast
        self._bar.update(done - self._bar.n)

    def metrics(self, step: int, found: Mapping[str, float]) -> None:
        if "learning_rate" in found:  # the loss of some steps
            if self._bar is not None:
                self._bar.set_postfix_str(f"loss {found['loss']:.4f}")
        elif not self._quiet:
            note(f"step {step:,}: {_short(found)}")


def _short(found: Mapping[str, float]) -> str:
    """The main measures, as far as a line goes."""
    from semsearch.training.outcome import main_measures

    shown = main_measures(found)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return ", ".join(f"{name} {found[name]:.4f}" for name in shown[:_SHOWN]) + more


@contextmanager
def training_bar(name: str) -> Iterator[Watch]:
    """What listens to a run: on a terminal with a bar."""
    if not sys.stderr.isatty() or int(os.environ.get("RANK", "0")):
        yield _Told(None)
        return
    from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]

    with tqdm(
        desc=name,
        unit=" steps",
        leave=False,
        dynamic_ncols=True,
        smoothing=0.1,
        bar_format=_FORMAT,
    ) as bar:
        yield _Told(bar)
