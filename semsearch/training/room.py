"""Whether a run has room for its checkpoints and its gradients, asked before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from semsearch.resources import require_memory, require_space

if TYPE_CHECKING:
    from semsearch.training.preparing import Prepared


def require_room_to_train(prepared: Prepared, folder: Path) -> None:
    """Raise StorageError or OutOfMemory where a run cannot fit, on the low side.

    On the disk there are a checkpoint (weights, and at least as much again for the optimizer) and
    the finished model; in memory the gradients, and at least as much again.
    """
    every = [(p.numel() * p.element_size(), p.requires_grad) for p in prepared.model.parameters()]
    weights = sum(size for size, _ in every)
    trained = sum(size for size, learns in every if learns)
    if prepared.device == "cpu":
        require_memory(2 * trained, "training")
    require_space(folder, 2 * weights + trained, "training")
