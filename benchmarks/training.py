"""Fine-tuning: the published recipes on real rows, what training costs, and what it is worth.

Each recipe is trained from a small model of its own architecture, made from nothing, and from the
default model; what it measures is told before and after.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.results import Goal, Result, Row, Spread
from benchmarks.setting import MODEL, Setting
from semsearch.encoders.runtimes.torch import quiet
from semsearch.training.judging import judge_trained
from semsearch.training.losses import build_loss
from semsearch.training.preparing import prepare, read_all
from semsearch.training.recipe import SCRATCH, Data, Evaluation, Recipe
from semsearch.training.recipe_file import read_recipe
from semsearch.training.run import build_trainer, train
from semsearch.training.trained import Trained
from semsearch.training.verdict import Verdict
from semsearch.training.watching import NoWatch

_RECIPES = Path(__file__).parent.parent / "data" / "recipes"
_ONCE = 'training.eval_strategy="no"'
"""Before and after alone: how often it is measured meanwhile changes nothing about the result."""

OVERHEAD, KEPT, LEVEL = 0.02, 0.90, 0.05
_SMALL = 512
_ROUNDS = 5
_OVERHEAD_STEPS = 6


class Published(NamedTuple):
    """A recipe, the measures that are shown of it, how many rows of a file are trained on (0: all).

    ``scratch`` changes its settings where the base is made from nothing: its weights are random,
    and a rate that is right to adjust a trained model hardly moves them. ``rows`` and ``asked`` are
    then trained and measured on instead, where the recipe's own are too few to learn from.
    """

    name: str
    shown: tuple[str, ...]
    sample: int
    scratch: tuple[str, ...]
    rows: Data | None = None
    asked: Evaluation | None = None


PUBLISHED = (
    Published(
        "duplicates-zh",
        ("cmrc_cosine_ndcg@10", "paws_cosine_ap"),
        4_000,
        ("training.learning_rate=5e-4",),
    ),
    Published(
        "nli-deberta",
        ("sts-dev_spearman_cosine", "snli_cosine_ap"),
        0,
        ("training.learning_rate=5e-4",),
    ),
    Published(
        "faq-matryoshka-pt",
        tuple(f"dim_{dim}_cosine_ndcg@10" for dim in (768, 512, 384, 256, 128, 64)),
        0,
        (
            "training.learning_rate=3e-4",
            "training.num_train_epochs=8",
            "training.gradient_accumulation_steps=1",
            "training.max_length=64",
            "model.max_length=256",
        ),
        Data("faquad-pt/train.jsonl"),
        Evaluation("retrieval", "faquad-pt", split="dev", unseen=True),
    ),
    Published(
        "qa-sinhala",
        ("sinhala-squad_cosine_ndcg@10",),
        0,
        ("training.learning_rate=5e-4",),
    ),
    Published(
        "poems-zh",
        ("poems_cosine_ndcg@10", "poems_cosine_accuracy", "loss"),
        2_000,
        ("training.learning_rate=5e-4",),
    ),
)


def run(setting: Setting) -> Result:
    result = Result(
        title="Fine-tuning: the five recipes, before and after",
        dataset={"recipes": [published.name for published in PUBLISHED]},
        notes=[
            "Rows: those of the labelled sets that are trained on. From nothing: a small model of"
            " the recipe's own architecture with random weights, its tokenizer trained on the same"
            " rows; its rate is raised (see PUBLISHED), all else is as published. 34 rows teach it"
            " nothing: there the 835 of FaQuAD are trained on. What is trained on is left out of"
            " what is measured."
        ],
    )
    root = setting.datasets_folder()
    if root is None:
        result.notes.append("NO DATASETS: nothing was trained.")
        return result
    for published in PUBLISHED:
        for base in (SCRATCH, MODEL):
            setting.note(f"{published.name} from {base}")
            trained = _train(setting, root, published, base)
            rows = _rows(published, base, trained)
            setting.note("; ".join(f"{r['measure']} {r['before']} -> {r['after']}" for r in rows))
            result.rows += rows
            result.raw[f"{published.name} from {base}"] = trained.to_json()
    _improved(result)
    _overhead(setting, root, result)
    if setting.full:
        _worth(setting, root, result)
    return result


def _train(setting: Setting, root: Path, published: Published, base: str) -> Trained:
    recipe = read_recipe(
        _RECIPES / f"{published.name}.toml",
        changes_for(published, base, published.sample if setting.full else _SMALL),
    )
    if base == SCRATCH and published.rows is not None and published.asked is not None:
        recipe = replace(recipe, data=(published.rows,), evaluation=(published.asked,))
    output = setting.work / f"{published.name}-{Path(base).name}"
    return train(recipe, output, root=root, fresh=True)


def changes_for(published: Published, base: str, sample: int) -> list[str]:
    """What a recipe is run with: how often it is measured and saved changes nothing else."""
    changes = [_ONCE, 'training.save_strategy="no"', "training.load_best_model_at_end=false"]
    changes += [f'model.base="{base}"', f"sample={sample}"]
    return [*changes, *(published.scratch if base == SCRATCH else ())]


def _rows(published: Published, base: str, trained: Trained) -> list[Row]:
    return [
        {
            "recipe": published.name,
            "from": "nothing" if base == SCRATCH else Path(base).name,
            "rows": trained.rows,
            "steps": trained.steps,
            "seconds": round(trained.seconds),
            "measure": name,
            "before": f"{trained.before[name]:.4f}",
            "after": f"{trained.after[name]:.4f}",
            "change": f"{trained.after[name] - trained.before[name]:+.4f}",
        }
        for name in published.shown
        if name in trained.after
    ]


def _improved(result: Result) -> None:
    """Every model made from nothing must be better than it was, in the first measure shown."""
    first: dict[str, float] = {}
    for row in result.rows:
        if row["from"] == "nothing":
            first.setdefault(str(row["recipe"]), float(str(row["change"])))
    for name, change in first.items():
        goal = Goal(f"{name} from nothing, change of its main measure", "> 0", change, change > 0)
        result.goals.append(goal)


def _overhead(setting: Setting, root: Path, result: Result) -> None:
    """Our trainer beside the library's own on one recipe, in turns: seconds of the same steps."""
    changes = [_ONCE, 'training.save_strategy="no"', f"training.max_steps={_OVERHEAD_STEPS}"]
    changes += ["model.rotate=false", "training.bf16=false"]
    recipe = read_recipe(_RECIPES / "scifact-matryoshka.toml", changes)
    rows = read_all(recipe, root)
    walls: dict[str, list[float]] = {"ours": [], "plain": []}
    work: dict[str, list[float]] = {"ours": [], "plain": []}
    for number in range(_ROUNDS + 1):
        setting.note(f"overhead, round {number} of {_ROUNDS}")
        for name, timed in (("ours", _ours), ("plain", _plain)):
            folder = setting.work / f"overhead-{name}"
            shutil.rmtree(folder, ignore_errors=True)
            wall, processor = timed(recipe, rows, root, folder)
            if number:  # the first of each warms up
                walls[name].append(wall)
                work[name].append(processor)
    ratios = [a / b for a, b in zip(walls["ours"], walls["plain"], strict=True)]
    by_work = [a / b for a, b in zip(work["ours"], work["plain"], strict=True)]
    result.more["Our trainer beside SentenceTransformerTrainer"] = [
        {
            "steps": _OVERHEAD_STEPS,
            "ours, s": str(Spread.of(walls["ours"])),
            "plain, s": str(Spread.of(walls["plain"])),
            "ratio": str(Spread.of(ratios)),
            "ratio by processor time": str(Spread.of(by_work)),
        }
    ]
    result.raw["overhead"] = {"wall": walls, "processor": work}
    more = Spread.of(by_work).median - 1
    goal = Goal("trainer overhead, by processor time", f"<= {OVERHEAD}", more, more <= OVERHEAD)
    result.goals.append(goal)


def _ours(recipe: Recipe, rows: Any, root: Path, folder: Path) -> tuple[float, float]:
    with quiet():
        prepared = prepare(recipe, rows, root, None, NoWatch())
        trainer = build_trainer(prepared, folder, NoWatch())
        return _timed(trainer)


def _plain(recipe: Recipe, rows: Any, root: Path, folder: Path) -> tuple[float, float]:
    """What one would write by hand with the library, on the same model, rows and arguments."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer

    from semsearch.training.arguments import trainer_arguments

    with quiet():
        prepared = prepare(recipe, rows, root, None, NoWatch())
        [source] = prepared.rows
        columns = {name: source.column(n) for n, name in enumerate(source.columns)}
        trainer = SentenceTransformerTrainer(
            model=prepared.model,
            args=trainer_arguments(recipe, prepared.training, folder, prepared.device),
            train_dataset=Dataset.from_dict(columns),
            loss=build_loss(recipe.loss, prepared.model),
        )
        return _timed(trainer)


def _timed(trainer: Any) -> tuple[float, float]:
    trainer.data_collator.max_length = 160
    with redirect_stdout(StringIO()):
        wall, processor = time.perf_counter(), time.process_time()
        trainer.train()
        return time.perf_counter() - wall, time.process_time() - processor


def _worth(setting: Setting, root: Path, result: Result) -> None:
    """The default model fine-tuned on SciFact, judged on its test queries; turned first or not."""
    recipe = read_recipe(_RECIPES / "scifact-matryoshka.toml")
    verdicts: dict[str, Verdict] = {}
    for name, rotate in (("rotated first", True), ("as it is", False)):
        setting.note(f"fine-tuning on SciFact, {name}")
        chosen = replace(recipe, model=replace(recipe.model, rotate=rotate))
        output = setting.work / f"scifact-{rotate}"
        trained = train(chosen, output, root=root, fresh=True)
        verdict = judge_trained(trained, root)
        if verdict is None:
            raise RuntimeError("the default model can be searched with")
        verdicts[name] = verdict
        result.raw[f"scifact, {name}"] = verdict.to_json()
        rows = result.more.setdefault("SciFact: nDCG@10 on the test queries, as served", [])
        rows += [_verdict_row(name, row, trained.seconds) for row in verdict.rows]
    _worth_goals(result, verdicts)


def _verdict_row(name: str, row: Any, seconds: float) -> Row:
    return {
        "vectors": name,
        "pipeline": row.name,
        "base": f"{row.base.mean:.4f}",
        "fine-tuned": f"{row.tuned.mean:.4f}",
        "difference": f"{row.change.difference:+.4f}",
        "interval": "[{:+.4f}, {:+.4f}]".format(*row.change.interval),
        "p": f"{row.change.p:.4f}",
        "p, Holm": f"{row.change.p_holm:.4f}",
        "keeps of full width": None if row.tuned.kept is None else f"{row.tuned.kept:.1%}",
        "verdict": row.word,
        "training, s": round(seconds),
    }


def _worth_goals(result: Result, verdicts: Mapping[str, Verdict]) -> None:
    found = verdicts["rotated first"]
    first = found.rows[0].change
    better = first.p_holm < LEVEL and first.difference > 0
    result.goals.append(
        Goal("SciFact, full width: p", f"< {LEVEL} and BETTER", first.p_holm, better)
    )
    kept = _narrowest([row.tuned.kept for row in found.rows])
    what = "SciFact: share of full-width nDCG@10 that 64 dims keep"
    result.goals.append(Goal(what, f">= {KEPT}", kept, kept >= KEPT))


def _narrowest(shares: Sequence[float | None]) -> float:
    return [share for share in shares if share is not None][-1]
