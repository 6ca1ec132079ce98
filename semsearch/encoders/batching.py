"""Token-budget batches: texts of similar length together, so that little is spent on padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from semsearch.encoders.runtimes.contract import Batch, OutOfMemory, Output, Runtime
from semsearch.errors import ModelError

if TYPE_CHECKING:
    from semsearch.types import Bools, Ints


def batches(lengths: Sequence[int], budget: int, multiple: int) -> Iterator[list[int]]:
    """Groups of positions, longest texts first: no group needs more than ``budget`` tokens.

    A group's need is its size times its longest length, rounded up to ``multiple``; a single text
    that needs more than the budget is a group of its own.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        size = max(1, budget // rounded(lengths[order[start]], multiple))
        yield order[start : start + size]
        start += size


def rounded(length: int, multiple: int) -> int:
    """``length`` rounded up to a multiple."""
    return -(-length // multiple) * multiple


def padded(rows: Sequence[Ints], pad_id: int, multiple: int, longest: int) -> Batch:
    """A batch of texts' ids, padded at the end; L is rounded up but at most ``longest``."""
    need = max(len(row) for row in rows)
    width = max(need, min(rounded(need, multiple), longest))
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(rows), width), dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return Batch(ids, mask)


def run_halving(
    runtime: Runtime,
    ids: Ints,
    mask: Ints,
    keep: Bools | None = None,
    *,
    prompt_length: int = 0,
    many: bool = False,
) -> Output:
    """Run a batch, in halves and halves of halves where the device has no room for it.

    Raises ModelError if a single text does not fit.
    """
    try:
        return runtime.run(ids, mask, keep, prompt_length=prompt_length, many=many)
    except OutOfMemory as exc:
        if len(ids) == 1:
            raise ModelError(
                f"out of memory on one text of {ids.shape[1]} tokens ({runtime.name}, "
                f"{runtime.precision}): use a smaller model or a machine with more memory"
            ) from exc
    middle = len(ids) // 2
    halves = [
        run_halving(runtime, *half, prompt_length=prompt_length, many=many)
        for half in (
            Batch(ids[part], mask[part], None if keep is None else keep[part])
            for part in (slice(0, middle), slice(middle, None))
        )
    ]
    vectors = np.concatenate([half.vectors for half in halves])
    rows = [half.tokens for half in halves if half.tokens is not None]
    return Output(vectors, np.concatenate(rows) if rows else None)
