"""What a run tells while it goes on, whoever listens."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from semsearch import stopping
from semsearch.training.checkpoints import sync_checkpoint

if TYPE_CHECKING:
    from transformers import TrainerCallback


class Watch(Protocol):
    """Listens to a run."""

    def stage(self, name: str) -> None:
        """A stage begins: ``reading``, ``measuring before`` ..."""

    def step(self, done: int, total: int) -> None:
        """``done`` of ``total`` steps were taken, those before a resume included."""

    def metrics(self, step: int, found: Mapping[str, float]) -> None:
        """What was measured at a step: the loss since the last time, or an evaluation."""


class NoWatch:
    """Listens to nothing."""

    def stage(self, name: str) -> None:
        """Ignored."""

    def step(self, done: int, total: int) -> None:
        """Ignored."""

    def metrics(self, step: int, found: Mapping[str, float]) -> None:
        """Ignored."""


def stopping_at_a_checkpoint() -> AbstractContextManager[None]:
    """Let a signal wait for the end of its step, which then makes a checkpoint.

    Of several processes each would wait for the others: there a signal stops at once.
    """
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    return stopping.deferred() if alone else nullcontext()


_LOGGED = ("loss", "learning_rate", "grad_norm", "epoch")


def watching_callback(watch: Watch) -> TrainerCallback:
    """The trainer's callback that passes on what it says, and makes checkpoints durable."""
    from transformers import TrainerCallback

    class Watching(TrainerCallback):  # type: ignore[misc,unused-ignore] # its types are not read
        """Tells ``watch``; a dozen calls a step at most, none of which touches the model."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            watch.step(state.global_step, state.max_steps)
            control.should_save |= stopping.requested()
            self._log_with_checkpoint(control)

        def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._log_with_checkpoint(control)

        @staticmethod
        def _log_with_checkpoint(control: Any) -> None:
            """The loss since the last log is in no checkpoint: none may stand open at one."""
            control.should_log |= control.should_save

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            found = {k: v for k, v in (logs or {}).items() if k in _LOGGED}
            if "loss" in found:
                watch.metrics(state.global_step, found)

        def on_evaluate(
            self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any
        ) -> None:
            watch.metrics(state.global_step, measured(metrics or {}))

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if args.should_save and folder.is_dir():
                sync_checkpoint(folder)
            stopping.check()

    return Watching()


_NOT_MEASURED = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


def measured(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The measures of an evaluation without the trainer's prefix and its own timings."""
    plain = {name.removeprefix("eval_"): value for name, value in metrics.items()}
    return {
        name: float(value)
        for name, value in plain.items()
        if name != "epoch" and not name.endswith(_NOT_MEASURED)
    }
