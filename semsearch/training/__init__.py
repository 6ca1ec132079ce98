"""Fine-tuning: recipes, checks of the data, training, model cards, verdicts, hard negatives.

recipe + rows -> checks -> trainer -> model folder + card -> verdict against the base
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from semsearch.lazy import lazy_names

if TYPE_CHECKING:
    from semsearch.training.mining import Mining, mine
    from semsearch.training.recipe import Recipe
    from semsearch.training.recipe_file import read_recipe
    from semsearch.training.run import train
    from semsearch.training.trained import Trained
    from semsearch.training.verdict import Verdict, judge

__all__ = ["Mining", "Recipe", "Trained", "Verdict", "judge", "mine", "read_recipe", "train"]

__getattr__ = lazy_names(
    __name__,
    {
        "Mining": ".mining",
        "mine": ".mining",
        "Recipe": ".recipe",
        "read_recipe": ".recipe_file",
        "train": ".run",
        "Trained": ".trained",
        "Verdict": ".verdict",
        "judge": ".verdict",
    },
)
