"""What to change when a device has no room for a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from semsearch.errors import OutOfMemory
from semsearch.training.losses import RANKING
from semsearch.training.recipe import Recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_ON_CPU = ("not enough memory", "can't allocate memory", "DefaultCPUAllocator")


@contextmanager
def memory_advice(recipe: Recipe, model: SentenceTransformer) -> Iterator[None]:
    """Turn the library's errors about memory into OutOfMemory that names the setting to change."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as exc:
        raise OutOfMemory(_advice(recipe, model)) from exc
    except MemoryError as exc:
        raise OutOfMemory(_advice(recipe, model)) from exc
    except RuntimeError as exc:
        if not any(sign in str(exc) for sign in _ON_CPU):
            raise
        raise OutOfMemory(_advice(recipe, model)) from exc


def _advice(recipe: Recipe, model: SentenceTransformer) -> str:
    training, loss = recipe.training, recipe.loss
    batch, longest = training.per_device_train_batch_size, model.max_seq_length
    many = loss.mini_batch_size if loss.name.startswith("Cached") else batch
    if loss.name.startswith("Cached") and many > 1:
        change = f"lower loss.mini_batch_size to {max(1, many // 2)} (the result stays the same)"
    elif loss.name in RANKING and batch > 1:
        change = (
            'set loss.name = "CachedMultipleNegativesRankingLoss" with loss.mini_batch_size ='
            f" {max(1, batch // 4)} (the same negatives), or lower per_device_train_batch_size"
        )
    else:
        half, steps = max(1, batch // 2), training.gradient_accumulation_steps * 2
        change = (
            f"lower training.per_device_train_batch_size to {half} and raise"
            f" gradient_accumulation_steps to {steps}"
        )
    return (
        f"out of memory on {model.device} with batches of {many} texts of up to {longest} tokens:"
        f" {change}; or lower model.max_length, or set training.gradient_checkpointing = true"
    )
