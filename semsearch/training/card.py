"""The model card: sentence-transformers writes it, we complete it.

Added to what the library tells: the training log also of processes that were stopped, what the
machine computed in, what was found in the rows, and the quality of the pipeline that serves it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semsearch import fs
from semsearch.encoders.card import CARD
from semsearch.encoders.resolve import is_name
from semsearch.training.checks import Finding
from semsearch.training.recipe import SCRATCH, Recipe, Training
from semsearch.training.watching import measured

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer

SERVED = "### Served Pipeline"
_DETAILS = "\n## Training Details\n"
_HYPERPARAMETERS = "\n### Training Hyperparameters\n"


def tell_card(recipe: Recipe, model: SentenceTransformer) -> None:
    """Give the card what only the recipe knows: language, licence, name of the base."""
    data = model.model_card_data
    if recipe.model.language:
        data.set_language([part.strip() for part in recipe.model.language.split(",")])
    if recipe.model.license:
        data.set_license(recipe.model.license)
    if recipe.model.base != SCRATCH and is_name(recipe.model.base):
        data.base_model = recipe.model.base
    data.model_name = recipe.name


@contextmanager
def quiet_card() -> Iterator[None]:
    """Keep the library from drawing a bar of its own while it looks for examples for the card."""
    from sentence_transformers.base import model_card

    bar = model_card.tqdm
    model_card.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        model_card.tqdm = bar


def complete_logs(trainer: SentenceTransformerTrainer, before: Mapping[str, float]) -> None:
    """Make the card's log that of the whole run, whichever processes took its steps."""
    data = trainer.model.model_card_data
    shown = _primary(trainer)
    lines: dict[int, dict[str, Any]] = {}
    if before:
        lines[0] = {"Epoch": 0, "Step": 0, **_evaluated(before, shown)}
    for entry in trainer.state.log_history:
        line = lines.setdefault(entry["step"], {"Epoch": entry["epoch"], "Step": entry["step"]})
        if "loss" in entry:
            line["Training Loss"] = entry["loss"]
        of_evaluation = {key: value for key, value in entry.items() if key.startswith("eval_")}
        line.update(_evaluated(measured(of_evaluation), shown))
    data.training_logs = [lines[step] for step in sorted(lines)]


def _primary(trainer: SentenceTransformerTrainer) -> set[str]:
    """The main measure of each evaluator: the log has no room for all."""
    evaluators = getattr(trainer.evaluator, "evaluators", [])
    return {evaluator.primary_metric for evaluator in evaluators} - {None}


def _evaluated(found: Mapping[str, float], shown: set[str]) -> dict[str, float]:
    named = {key: value for key, value in found.items() if key in shown}
    losses = {
        "Validation Loss" if key == "loss" else key.replace("_", " "): value
        for key, value in found.items()
        if key.endswith("loss")
    }
    return {**losses, **named}


def complete_card(
    folder: Path,
    recipe: Recipe,
    training: Training,
    notices: Sequence[str],
    found: Sequence[Finding],
) -> None:
    """Add precision and findings to the card that the library wrote. Raises StorageError."""
    card = folder / CARD
    text = card.read_text(encoding="utf-8")
    lines = ["", "### Precision", "", f"* Asked for: {_precision(recipe.training)}"]
    lines += [f"* Computed in: {_precision(training)}"]
    lines += [f"* {notice}" for notice in notices]
    lines += ["", "### Checks of the Data", ""]
    lines += [f"* {Path(one.source).name}: {str(one).partition(': ')[2]}" for one in found]
    lines += [] if found else ["Nothing was found."]
    fs.write_file(card, _before(text, _HYPERPARAMETERS, "\n".join(lines)).encode())


def put_served(folder: Path, dataset: str, table: str) -> None:
    """Put the table of the served pipeline's quality into a card, in place of an earlier one.

    Raises StorageError.
    """
    card = folder / CARD
    text = card.read_text(encoding="utf-8")
    start = text.find(f"\n{SERVED}\n")
    if start >= 0:
        text = text[:start] + text[text.index(_DETAILS, start) :]
    head = "" if "\n## Evaluation\n" in text else "\n## Evaluation\n"
    told = (
        f"{head}\n{SERVED}\n\nThe search that users get from an index of {dataset}, with 95 %"
        f" bootstrap intervals over the queries:\n\n{table.strip()}\n"
    )
    fs.write_file(card, _before(text, _DETAILS, told).encode())


def _before(text: str, heading: str, addition: str) -> str:
    """``addition`` in front of a heading, at the end where there is none."""
    at = text.find(heading)
    return f"{text}{addition}\n" if at < 0 else f"{text[:at]}{addition}\n{text[at:]}"


def _precision(training: Training) -> str:
    names = [name for name in ("fp16", "bf16", "tf32") if getattr(training, name)]
    return " + ".join(names) or "float32"
