"""``semsearch train``: a recipe in, a fine-tuned model with its card and a verdict out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from semsearch.cli.labelled import fail_gates
from semsearch.cli.output import bold, count, json_option, note, print_json, progress_bar
from semsearch.cli.training_bar import training_bar

if TYPE_CHECKING:
    from semsearch.training.recipe import Recipe
    from semsearch.training.trained import Trained
    from semsearch.training.verdict import Verdict

_MOVED = 3


@click.command(
    epilog="""\b
Examples: semsearch train my-recipe.toml
          semsearch train my-recipe.toml --check
          semsearch train my-recipe.toml --verdict my-dataset/ --gate
          semsearch train my-recipe.toml --base scratch --sample 1000 -o small
          semsearch train my-recipe.toml --set training.num_train_epochs=3
          torchrun --nproc-per-node 4 -m semsearch train my-recipe.toml
"""
)
@click.argument("recipe", type=click.Path())
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False),
    help="The folder of the model.  [default: models/NAME]",
)
@click.option(
    "--data",
    "root",
    type=click.Path(exists=True, file_okay=False),
    help="Where the recipe's paths are.  [default: beside the recipe]",
)
@click.option("--base", help="Start from this model instead, or from `scratch`.")
@click.option("--sample", type=click.IntRange(min=0), metavar="N", help="Train on N rows of each.")
@click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a setting; repeatable."
)
@click.option("--print", "only_print", is_flag=True, help="Print the resolved recipe, and stop.")
@click.option("--check", "only_check", is_flag=True, help="Check the rows, and stop.")
@click.option("--strict", is_flag=True, help="Refuse rows with anything wrong.")
@click.option("--fresh", is_flag=True, help="Begin anew; replace what was trained before.")
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1 ..  [default: the best there is]")
@click.option(
    "--verdict", "judged", metavar="DATASET", help="Compare with the base on these labels."
)
@click.option("--split", help="Which qrels/SPLIT.tsv of it.  [default: test, else dev]")
@click.option("--measure", metavar="NAME@K", help="What to compare.  [default: ndcg@10]")
@click.option("--gate", is_flag=True, help="Exit with 3 if the verdict is WORSE at any width.")
@json_option
def train(recipe: str, as_json: bool, **options: Any) -> None:
    """Fine-tune a model as RECIPE (a TOML file) says, and tell whether it got better.

    The rows are checked first. A run that was stopped goes on from its last checkpoint; one that is
    done is not repeated. The model's folder holds its card, and serves `semsearch index -m FOLDER`.
    """
    from semsearch.training.recipe_file import read_recipe, recipe_text

    chosen = read_recipe(recipe, _changes(options))
    if options["only_print"]:
        click.echo(recipe_text(chosen), nl=False)
        return
    if options["gate"]:
        _require_verdict(chosen)
    root = Path(options["root"] or Path(recipe).parent)
    if options["only_check"]:
        _check(chosen, root, options, as_json)
        return
    output = options["output"] or Path("models") / chosen.name
    trained = _train(chosen, output, root, options)
    if int(os.environ.get("RANK", "0")):
        return  # the first process tells
    if not as_json:
        _print(trained)
    verdict = _judge(trained, root)
    if as_json:
        told = {"model": str(trained.folder), "already": trained.already, **trained.to_json()}
        print_json({**told, "verdict": None if verdict is None else verdict.to_json()})
    elif verdict is not None:
        from semsearch.training.verdict_table import verdict_lines

        for line in ["", *verdict_lines(verdict, bold, moved=_MOVED)]:
            click.echo(line)
    if options["gate"] and verdict is not None and verdict.worse:
        fail_gates("gate failed: the fine-tuned model is WORSE than its base")


def _require_verdict(recipe: Recipe) -> None:
    """A gate that could never close is refused before anything is trained."""
    from semsearch.training.base_model import base_folder

    if recipe.verdict is None:
        raise click.UsageError(
            "--gate needs a verdict: --verdict DATASET, or [verdict] in the recipe"
        )
    if base_folder(recipe.model) is None:
        raise click.UsageError(
            f"--gate compares with the base, and {recipe.model.base!r} cannot be searched with"
        )


def _changes(options: dict[str, Any]) -> list[str]:
    """What the options change in the recipe; those with a name of their own come last."""
    found = list(options["changes"])
    if options["base"] is not None:
        found.append(f"model.base={_quoted(options['base'])}")
    if options["sample"] is not None:
        found.append(f"sample={options['sample']}")
    if options["judged"] is not None:
        found.append(f"verdict.path={_quoted(str(Path(options['judged']).resolve()))}")
    for name in ("split", "measure"):
        if options[name] is not None:
            found.append(f"verdict.{name}={_quoted(options[name])}")
    return found


def _quoted(text: str) -> str:
    """A text as TOML writes it; what is beyond 16 bits stays as it is."""
    return json.dumps(text, ensure_ascii=False)


def _check(recipe: Recipe, root: Path, options: dict[str, Any], as_json: bool) -> None:
    from semsearch.training.checks import refuse_findings
    from semsearch.training.preparing import prepare, read_all, require_extra
    from semsearch.training.watching import NoWatch

    require_extra()
    prepared = prepare(recipe, read_all(recipe, root), root, options["device"], NoWatch())
    if as_json:
        print_json([finding.to_json() for finding in prepared.findings])
    else:
        for finding in prepared.findings:
            click.echo(str(finding))
        rows = count(sum(map(len, prepared.rows)), "row")
        click.echo(f"{rows} to train on; {count(len(prepared.findings), 'finding')}")
    if options["strict"]:
        refuse_findings(prepared.findings)


def _train(recipe: Recipe, output: str | Path, root: Path, options: dict[str, Any]) -> Trained:
    from semsearch.training.run import train as run_training

    with training_bar(recipe.name) as watch:
        return run_training(
            recipe,
            output,
            root=root,
            device=options["device"],
            strict=options["strict"],
            fresh=options["fresh"],
            watch=watch,
        )


def _judge(trained: Trained, root: Path) -> Verdict | None:
    """The verdict, noted in the model's folder; None where there is nothing to compare with."""
    from semsearch.training.base_model import base_folder
    from semsearch.training.judging import judge_trained

    wanted = trained.recipe.verdict
    if wanted is None:
        return None
    if base_folder(trained.recipe.model) is None:
        note(f"no verdict: the base {trained.recipe.model.base!r} cannot be searched with")
    with progress_bar(None, "indexing", "docs") as advance:
        return judge_trained(trained, root, progress=advance)


def _print(trained: Trained) -> None:
    from semsearch.training.outcome import outcome_lines

    for line in outcome_lines(trained, bold):
        click.echo(line)
