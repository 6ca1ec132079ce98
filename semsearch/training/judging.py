"""The verdict on a trained model, and the table of its card that it brings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from semsearch import fs
from semsearch.evaluation.dataset_index import open_dataset_index
from semsearch.evaluation.labelled import open_labelled
from semsearch.training.base_model import base_folder
from semsearch.training.card import put_served
from semsearch.training.checkpoints import FACTS
from semsearch.training.served import served_markdown, served_quality
from semsearch.training.trained import Trained
from semsearch.training.verdict import Verdict, judge


def judge_trained(
    trained: Trained, root: Path, *, progress: Callable[[int], None] | None = None
) -> Verdict | None:
    """Compare a trained model with its base on what the recipe names, and note it in its folder.

    The card gets the table of the served pipeline. Where the base is no sentence-transformers model
    there is nothing to compare with: only that table is made, and None returned. Raises as
    ``judge``.
    """
    wanted = trained.recipe.verdict
    if wanted is None:
        return None
    dataset = open_labelled(root / wanted.path, wanted.split)
    base = base_folder(trained.recipe.model)
    if base is None:
        with open_dataset_index(dataset, trained.folder, progress=progress) as index:
            rows = served_quality(index, dataset)
        put_served(trained.folder, dataset.folder.name, served_markdown(rows))
        return None
    name = trained.recipe.model.base if not Path(trained.recipe.model.base).is_dir() else str(base)
    found = judge(name, trained.folder, dataset, measure=wanted.measure, progress=progress)
    put_served(trained.folder, dataset.folder.name, served_markdown(served_quality(found)))
    facts = trained.folder / FACTS
    noted = {**json.loads(facts.read_text(encoding="utf-8")), "verdict": found.to_json()}
    fs.write_file(facts, json.dumps(noted, indent=2, ensure_ascii=False).encode())
    return found
