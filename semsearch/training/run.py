"""A training run: rows, checks, the trainer, what was measured before and after, the folder."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semsearch.encoders.resolve import resolve_base
from semsearch.encoders.runtimes.torch import quiet
from semsearch.errors import ModelError, UsageError
from semsearch.training.arguments import trainer_arguments
from semsearch.training.card import complete_card, complete_logs, quiet_card, tell_card
from semsearch.training.checkpoints import (
    FACTS,
    Work,
    identity_of,
    saving_errors,
    trained_facts,
)
from semsearch.training.checks import refuse_findings
from semsearch.training.evaluators import DIVERGED
from semsearch.training.lora import merge_lora
from semsearch.training.losses import build_loss
from semsearch.training.memory import memory_advice
from semsearch.training.preparing import Prepared, prepare, read_all, require_extra
from semsearch.training.recipe import SCRATCH, Recipe, Training
from semsearch.training.recipe_file import recipe_digest
from semsearch.training.room import require_room_to_train
from semsearch.training.rows import Rows
from semsearch.training.tables import to_table
from semsearch.training.trained import Trained
from semsearch.training.watching import (
    NoWatch,
    Watch,
    measured,
    stopping_at_a_checkpoint,
    watching_callback,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer

log = logging.getLogger("semsearch")


def train(
    recipe: Recipe,
    output: str | Path,
    *,
    root: str | Path = ".",
    device: str | None = None,
    strict: bool = False,
    fresh: bool = False,
    watch: Watch | None = None,
) -> Trained:
    """Train as a recipe says and leave the model in the folder ``output``.

    Relative paths of the recipe are looked for under ``root``. A run that was stopped goes on from
    its last checkpoint, and ends as it would have; one that was finished is not repeated. ``fresh``
    begins anew. With ``strict`` what is wrong with the data is an error. The folder appears whole.

    Raises InputError and UsageError (rows or settings that cannot be used), NotFound, ModelError,
    StorageError, Locked, MissingExtra, OutOfMemory with what to change.
    """
    require_extra()
    watch = watch or NoWatch()
    output = Path(output)
    began = time.perf_counter()
    watch.stage("reading the rows")
    rows = read_all(recipe, Path(root))
    base = resolve_base(recipe.model.base) if recipe.model.base != SCRATCH else None
    work = Work(output, identity_of(recipe_digest(recipe), [r.digest() for r in rows], base))
    done = _finished(output, work, recipe, fresh=fresh)
    if done is not None:
        return done
    prepared = prepare(recipe, rows, Path(root), device, watch)
    if strict:
        refuse_findings(prepared.findings)
    require_room_to_train(prepared, work.folder)
    with (
        work.open(fresh=fresh),
        quiet(),
        memory_advice(recipe, prepared.model),
        saving_errors(work.folder),
    ):
        return _train(prepared, work, watch, began)


def _finished(output: Path, work: Work, recipe: Recipe, *, fresh: bool) -> Trained | None:
    """The finished run of the same identity, if the folder holds it. Raises UsageError."""
    if not output.exists():
        return None
    facts = trained_facts(output)
    if facts is None:
        raise UsageError(f"{output}: exists and was not made by training: choose another --output")
    if fresh:
        return None
    if facts.get("identity") != work.identity:
        raise UsageError(
            f"{output}: holds a model of another recipe, other rows or another base: choose another"
            " --output, or --fresh to replace it"
        )
    if facts["recipe"]["evaluation"] != to_table(recipe)["evaluation"]:
        log.warning(
            "%s: the recipe measures otherwise now, and this is what was measured then: --fresh"
            " trains and measures again",
            output,
        )
    work.drop()  # a process that was stopped right at the end leaves it
    return Trained.from_facts(output, recipe, facts)


def _train(prepared: Prepared, work: Work, watch: Watch, began: float) -> Trained:
    from transformers import set_seed

    trainer = build_trainer(prepared, work.folder, watch)
    noted = f"before-{prepared.measured[:16]}.json"
    before, checkpoint = work.kept(noted), work.checkpoint()
    trainer.accelerator.wait_for_everyone()  # nobody writes before all have read
    if before is None:
        watch.stage("measuring before")
        before = measure(trainer)
        if trainer.args.should_save:
            work.keep(noted, before)
    _check_metric(prepared.training, before)
    resumed = int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0
    if resumed:
        log.warning("going on from step %s of a run that was stopped", f"{resumed:,}")
    watch.stage("training")
    set_seed(prepared.recipe.seed)  # measuring draws numbers, and is not done twice
    with stopping_at_a_checkpoint():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    merge_lora(prepared.model)
    _require_numbers(prepared.model)
    best = trainer.state.best_global_step if prepared.training.load_best_model_at_end else None
    # What another process measured is not known to the card.
    after = _measured_last(trainer, best) if trainer.state.global_step > resumed else None
    if after is None:
        watch.stage("measuring after")
        after = measure(trainer)
    found = Trained(
        work.output, prepared.recipe, before, after, prepared.findings, prepared.notices,
        sum(map(len, prepared.rows)), trainer.state.global_step, best, resumed,
        time.perf_counter() - began,
    )  # fmt: skip
    if trainer.args.should_save:
        watch.stage("writing the model")
        _write(found, prepared, trainer, work)
    trainer.accelerator.wait_for_everyone()
    return found


def _check_metric(training: Training, found: Mapping[str, float]) -> None:
    """Raise UsageError if the best checkpoint is to be best at what is not measured."""
    name = training.metric_for_best_model.removeprefix("eval_")
    if training.load_best_model_at_end and name not in found:
        near = get_close_matches(name, found, 3, cutoff=0.3) or list(found)[:3]
        raise UsageError(
            f"training.metric_for_best_model = {training.metric_for_best_model!r} is not measured:"
            f" did you mean {' or '.join(map(repr, near))}?"
        )


def _require_numbers(model: SentenceTransformer) -> None:
    """Raise ModelError if training diverged: such a model finds nothing."""
    weights = model.state_dict().values()
    if not all(bool(weight.isfinite().all()) for weight in weights):
        raise ModelError(DIVERGED)


def _write(
    found: Trained, prepared: Prepared, trainer: SentenceTransformerTrainer, work: Work
) -> None:
    """Save the model with its card and facts, then let the folder appear."""
    made = work.folder / "model"
    shutil.rmtree(made, ignore_errors=True)
    complete_logs(trainer, found.before)
    if found.best_step is not None:
        prepared.model.model_card_data.set_best_model_step(found.best_step)
    prepared.model.save_pretrained(str(made))
    complete_card(made, prepared.recipe, prepared.training, prepared.notices, prepared.findings)
    facts = {"identity": work.identity, **found.to_json()}
    (made / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False), encoding="utf-8")
    work.publish(made)


def build_trainer(prepared: Prepared, folder: Path, watch: Watch) -> SentenceTransformerTrainer:
    """The library's trainer for a prepared run, with its checkpoints in ``folder``."""
    from datasets import disable_progress_bars
    from sentence_transformers import SentenceTransformerTrainer
    from transformers.trainer_callback import PrinterCallback

    disable_progress_bars()
    prepared.model.model_card_data.local_files_only = True
    tell_card(prepared.recipe, prepared.model)
    arguments = trainer_arguments(prepared.recipe, prepared.training, folder, prepared.device)
    with quiet_card():
        trainer = SentenceTransformerTrainer(
            model=prepared.model,
            args=arguments,
            train_dataset=_datasets({rows.name: rows for rows in prepared.rows}),
            eval_dataset=_datasets(prepared.losses) if prepared.losses else None,
            loss=build_loss(prepared.recipe.loss, prepared.model),
            evaluator=prepared.evaluator,
            callbacks=[watching_callback(watch)],
        )
    trainer.remove_callback(PrinterCallback)
    longest = prepared.training.max_length
    if longest:  # not more than the model has positions for
        trainer.data_collator.max_length = min(longest, prepared.model.max_seq_length or longest)
    return trainer


def _datasets(rows: dict[str, Rows]) -> Any:
    """One data set, or several by name."""
    from datasets import Dataset, DatasetDict, DatasetInfo

    found = {}
    for name, source in rows.items():
        columns: dict[str, list[Any]] = {
            column: source.column(n) for n, column in enumerate(source.columns)
        }
        if source.labels is not None:
            columns["label"] = source.labels
        found[name] = Dataset.from_dict(columns, info=DatasetInfo(dataset_name=name))
    return DatasetDict(found) if len(found) > 1 else next(iter(found.values()))


def _measured_last(
    trainer: SentenceTransformerTrainer, kept: int | None
) -> dict[str, float] | None:
    """What was measured at the last step, if that is the model that is kept."""
    last = trainer.state.global_step
    if kept not in (None, last):
        return None
    found: dict[str, float] = {}
    for entry in trainer.state.log_history:  # one for each set of rows that the loss is measured on
        if entry["step"] == last:
            found.update({key: value for key, value in entry.items() if key.startswith("eval_")})
    return measured(found) if found else None


def measure(trainer: SentenceTransformerTrainer) -> dict[str, float]:
    """All measures of the model as it is; empty where the recipe measures nothing."""
    if trainer.evaluator is None and trainer.eval_dataset is None:
        return {}
    if trainer.state.epoch is None:
        trainer.state.epoch = 0.0
    # Else the library runs the evaluators for each set of rows that the loss is measured on.
    trainer.is_in_train = True
    try:
        return measured(trainer.evaluate())
    finally:
        trainer.is_in_train = False
