"""The benchmark of training: what it shows of a run, and goals that can be missed."""

from pathlib import Path

import pytest

from benchmarks import training
from benchmarks.results import Result
from semsearch.training.recipe import SCRATCH, Data, Recipe
from semsearch.training.recipe_file import published_recipes, read_recipe
from semsearch.training.trained import Trained

PUBLISHED = training.Published("nli", ("ndcg", "ap", "absent"), 0, ())


def trained(before, after):
    recipe = Recipe((Data("rows.jsonl"),))
    return Trained(Path("made"), recipe, before, after, (), (), 8, 2, None, 0, 3.2)


def test_a_run_is_shown_by_its_measures():
    rows = training._rows(
        PUBLISHED, SCRATCH, trained({"ndcg": 0.1, "ap": 0.5}, {"ndcg": 0.3, "ap": 0.25})
    )
    assert [(row["from"], row["measure"], row["change"]) for row in rows] == [
        ("nothing", "ndcg", "+0.2000"),
        ("nothing", "ap", "-0.2500"),
    ]


@pytest.mark.parametrize(("after", "met"), [(0.3, True), (0.1, False), (0.05, False)])
def test_a_model_from_nothing_has_to_improve_in_its_main_measure(after, met):
    result = Result(title="t", dataset={})
    result.rows = training._rows(
        PUBLISHED, SCRATCH, trained({"ndcg": 0.1, "ap": 0.0}, {"ndcg": after, "ap": 1.0})
    )
    training._improved(result)
    assert [goal.met for goal in result.goals] == [met]


def test_a_fine_tuned_model_may_be_worse():
    result = Result(title="t", dataset={})
    result.rows = training._rows(PUBLISHED, "base", trained({"ndcg": 0.4}, {"ndcg": 0.1}))
    training._improved(result)
    assert result.goals == []


def test_what_is_kept_is_that_of_the_narrowest_width():
    assert training._narrowest([1.0, 0.99, 0.91, None]) == 0.91


@pytest.mark.parametrize("published", training.PUBLISHED, ids=lambda published: published.name)
def test_every_published_recipe_takes_its_changes(published):
    path = published_recipes()[published.name]
    recipe = read_recipe(path, training.changes_for(published, SCRATCH, 7))
    assert (recipe.model.base, recipe.sample) == (SCRATCH, 7)
    assert recipe.model.scratch is not None
    assert recipe.training.eval_strategy == "no"
