"""Small data sets that are easy to learn, and recipes of small models made from nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from semsearch.training.recipe import (
    Data,
    Evaluation,
    Loss,
    Matryoshka,
    Model,
    Recipe,
    Scratch,
    Training,
)
from semsearch.training.rows import Rows
from semsearch.training.run import train
from semsearch.training.trained import Trained
from tests import models
from tests.fakes import WORDS

SMALL = Scratch("bert", 32, 1, 2, 64, 200)
MODEL = Model("scratch", max_length=16, scratch=SMALL)

CHAINS = {
    "mpnet": Model(
        "scratch", 16, "mean", normalize=True, scratch=replace(SMALL, architecture="mpnet")
    ),
    "deberta": Model(
        "scratch", 16, "mean",
        scratch=replace(SMALL, architecture="deberta-v2", tokenizer="unigram", lower_case=False),
    ),
    "bert-cls": Model("scratch", 16, "cls", normalize=True, scratch=SMALL),
    "bert-unigram": Model("scratch", 16, "mean", scratch=replace(SMALL, tokenizer="unigram")),
    "bert-dense": Model("scratch", 16, "mean", dense=48, scratch=SMALL),
}  # fmt: skip
"""The architectures and module chains of the published recipes, small."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Small tensors are computed faster so, and to the last bit the same."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def synonym(word: str) -> str:
    """Another word for the same: what a model has to learn."""
    return WORDS[(WORDS.index(word) + len(WORDS) // 2) % len(WORDS)]


def easy_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Anchors of three words, positives of their synonyms, negatives of other words."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        words = [str(word) for word in random.choice(WORDS, 7, replace=False)]
        rows.append(
            {
                "anchor": " ".join(words[:3]),
                "positive": " ".join(map(synonym, words[:3])),
                "negative": " ".join(words[3:6]),
            }
        )
    return rows


def scored_rows(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Pairs that share 0 to 3 meanings, with that share as ``score`` and 0 or 1 as ``label``."""
    random = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        words = [str(word) for word in random.choice(WORDS, 6, replace=False)]
        shared = n % 4
        other = [*map(synonym, words[:shared]), *words[3 : 6 - shared]]
        pair = {"sentence1": " ".join(words[:3]), "sentence2": " ".join(other)}
        rows.append(pair | {"score": shared / 3, "label": int(shared > 1)})
    return rows


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_easy(folder: Path, train: int = 96, dev: int = 24) -> Path:
    """``train.jsonl``, ``dev.jsonl`` (triplets) and ``scored.jsonl`` in a folder."""
    rows = easy_rows(train + dev)
    write_rows(folder / "train.jsonl", rows[:train])
    write_rows(folder / "dev.jsonl", rows[train:])
    write_rows(folder / "scored.jsonl", scored_rows(40))
    return folder


PAIRS = {"anchor": "anchor", "positive": "positive"}


def small_recipe(model: Model = MODEL, **training: Any) -> Recipe:
    """Pairs of ``write_easy`` for a small model; measured by retrieval at two widths."""
    settings: dict[str, Any] = {
        "num_train_epochs": 2.0,
        "per_device_train_batch_size": 16,
        "learning_rate": 5e-3,
        "logging_steps": 3.0,
    }
    return Recipe(
        data=(Data("train.jsonl", columns=PAIRS),),
        name="small",
        model=model,
        loss=Loss(matryoshka=Matryoshka((32, 16))),
        training=Training(**settings | training),
        evaluation=(Evaluation("retrieval", "dev.jsonl", "dev"),),
    )


def made_rows(*texts: tuple[str, ...], labels: list[float] | None = None) -> Rows:
    """Rows of these texts, at lines 1, 2 ..."""
    columns = ("anchor", "positive", "negative", "negative_2")[: len(texts[0])]
    lines = list(range(1, len(texts) + 1))
    return Rows("made", "made.jsonl", columns, list(texts), labels, lines)


QUICK: dict[str, Any] = {"num_train_epochs": 1.0, "eval_strategy": "no", "save_strategy": "no"}


def trained(recipe: Recipe, root: Path, output: Path, **options: Any) -> Trained:
    return train(recipe, output, root=root, device="cpu", **options)


def weights(folder: Path) -> dict[str, Any]:
    """All tensors of a model by file and name."""
    return {
        f"{path.relative_to(folder)} {name}": tensor
        for path in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    return all(np.array_equal(first[name], second[name]) for name in first)


def plain_model(folder: Path) -> Any:
    """The folder as sentence-transformers reads it, of which nothing else is known."""
    from sentence_transformers import SentenceTransformer

    with models.calm():
        return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
