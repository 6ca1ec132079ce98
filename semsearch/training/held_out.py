"""The texts that a recipe measures on: nothing of them should be trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from semsearch.corpus import BeirDataset
from semsearch.training.recipe import Recipe
from semsearch.training.rows import read_data, relevant_documents


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What one evaluation asks, which documents answer it, which pairs it scores."""

    name: str
    queries: frozenset[str] = frozenset()
    documents: frozenset[str] = frozenset()
    pairs: tuple[tuple[str, str], ...] = ()


def held_out_texts(recipe: Recipe, root: Path) -> list[HeldOut]:
    """The texts of every evaluation and of the verdict. Raises as ``read_data``."""
    found = []
    for wanted in recipe.evaluation:
        name = wanted.name or f"{wanted.kind} on {Path(wanted.path).name}"
        if wanted.kind == "retrieval" and (root / wanted.path).is_dir():
            found.append(_of_dataset(root / wanted.path, wanted.split, name))
            continue
        rows = read_data(wanted, root)
        if wanted.kind in ("similarity", "classification"):
            pairs = tuple((row[0], row[1]) for row in rows.texts)
            found.append(HeldOut(name, pairs=pairs))
        else:
            others = frozenset(row[1] for row in rows.texts)
            found.append(HeldOut(name, frozenset(rows.column(0)), others))
    if recipe.verdict is not None:
        folder = root / recipe.verdict.path
        found.append(_of_dataset(folder, recipe.verdict.split, f"the verdict on {folder.name}"))
    return found


def _of_dataset(folder: Path, split: str, name: str) -> HeldOut:
    dataset = BeirDataset.open(folder, split)
    documents = (document.content for document in relevant_documents(dataset).values())
    return HeldOut(name, frozenset(query.text for query in dataset.queries), frozenset(documents))
