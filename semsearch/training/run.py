"""A training run: rows, checks, the trainer, what was measured before and after, the folder."""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semsearch.encoders.resolve import resolve_base
from semsearch.encoders.runtimes.torch import quiet
from semsearch.errors import MissingExtra, UsageError
from semsearch.training.arguments import settle_precision, trainer_arguments
from semsearch.training.base_model import open_base
from semsearch.training.card import complete_card, complete_logs, quiet_card, tell_card
from semsearch.training.checkpoints import FACTS, Work, identity_of, trained_facts
from semsearch.training.checks import Finding, check_rows, refuse_findings
from semsearch.training.evaluation_sets import held_out_texts, read_evaluations
from semsearch.training.evaluators import build_evaluator
from semsearch.training.lora import add_lora, merge_lora
from semsearch.training.losses import build_loss, check_columns, fit_widths, needs_of
from semsearch.training.memory import memory_advice
from semsearch.training.recipe import SCRATCH, Recipe, Training
from semsearch.training.recipe_file import recipe_digest
from semsearch.training.rows import Rows, read_data, sample
from semsearch.training.tables import to_table
from semsearch.training.watching import NoWatch, Watch, measured, watching_callback

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers.base.evaluation import SequentialEvaluator

log = logging.getLogger("semsearch")

_BEFORE = "before.json"


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


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that a run needs, before it begins. ``training`` is what the machine can do."""

    recipe: Recipe
    rows: tuple[Rows, ...]
    model: SentenceTransformer
    evaluator: SequentialEvaluator | None
    losses: dict[str, Rows]
    training: Training
    notices: tuple[str, ...]
    device: str
    findings: tuple[Finding, ...]


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
    StorageError, MissingExtra, OutOfMemory with what to change.
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
    work.open(fresh=fresh)
    with quiet(), memory_advice(recipe, prepared.model):
        return _train(prepared, work, watch, began)


def require_extra() -> None:
    """Raise MissingExtra unless what training needs is installed."""
    from importlib.util import find_spec

    for package in ("accelerate", "datasets"):
        if find_spec(package) is None:
            raise MissingExtra(package, "train", "training")


def read_all(recipe: Recipe, root: Path) -> tuple[Rows, ...]:
    """The rows of all sources of a recipe, sampled as it says. Raises as ``read_data``."""
    needs, label = needs_of(recipe.loss)
    found = [read_data(data, root, needs=needs, label=label) for data in recipe.data]
    names = [rows.name for rows in found]
    if len(set(names)) < len(names):
        raise UsageError(f"two tables [[data]] have the same name: {', '.join(names)}")
    check_columns(recipe.loss, found)
    return tuple(sample(rows, recipe.sample, recipe.seed) for rows in found)


def prepare(
    recipe: Recipe, rows: Sequence[Rows], root: Path, device: str | None, watch: Watch
) -> Prepared:
    """Open the base, look at the data, and settle what this machine can do."""
    watch.stage("opening the base")
    model = open_base(recipe.model, rows, recipe.seed, device)
    add_lora(recipe, model)
    kind = model.device.type
    training, notices = settle_precision(recipe.training, kind)
    for notice in notices:
        log.warning(notice)
    width = model.get_embedding_dimension()
    recipe, narrowed = fit_widths(recipe, width)
    if narrowed:
        log.warning(narrowed)
        notices = (*notices, narrowed)
    sets = read_evaluations(recipe, root, rows)
    evaluator, losses = build_evaluator(recipe, sets, width, bf16=training.bf16)
    watch.stage("checking the rows")
    with quiet():
        kept, findings = check_rows(recipe, rows, model, held_out_texts(recipe, root, sets))
    return Prepared(recipe, kept, model, evaluator, losses, training, notices, kind, findings)


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
    work.drop()  # a process that was stopped right at the end leaves it
    before, after = (_with_nan(facts[name]) for name in ("before", "after"))
    return Trained(
        output, recipe, before, after,
        tuple(Finding.from_json(found) for found in facts["checks"]), tuple(facts["notices"]),
        facts["rows"], facts["steps"], facts["best_step"], facts["resumed_from"],
        facts["seconds"], already=True,
    )  # fmt: skip


def _train(prepared: Prepared, work: Work, watch: Watch, began: float) -> Trained:
    trainer = build_trainer(prepared, work.folder, watch)
    before = work.kept(_BEFORE)
    if before is None:
        watch.stage("measuring before")
        before = measure(trainer)
        if trainer.args.should_save:
            work.keep(_BEFORE, before)
    _check_metric(prepared.training, before)
    checkpoint = work.checkpoint()
    resumed = int(checkpoint.name.rsplit("-", 1)[1]) if checkpoint else 0
    watch.stage("training")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    merge_lora(prepared.model)
    watch.stage("measuring after")
    after = measure(trainer)
    best = trainer.state.best_global_step if prepared.training.load_best_model_at_end else None
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


def _without_nan(found: Mapping[str, float]) -> dict[str, float | None]:
    """Measures as JSON has them: what could not be computed is null."""
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _with_nan(found: Mapping[str, float | None]) -> dict[str, float]:
    return {name: math.nan if value is None else value for name, value in found.items()}


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
    trainer.data_collator.max_length = prepared.training.max_length or None
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


def measure(trainer: SentenceTransformerTrainer) -> dict[str, float]:
    """All measures of the model as it is; empty where the recipe measures nothing."""
    if trainer.evaluator is None and trainer.eval_dataset is None:
        return {}
    if trainer.state.epoch is None:
        trainer.state.epoch = 0.0
    return measured(trainer.evaluate())
