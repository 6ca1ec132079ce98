"""What the processor reaches in bf16 matrix products: a large square one, and the model's own.

The model's own are the products of its layers with their weights, one after another on a batch of
tokens: no attention, normalisation or activation between them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_SIDE = 2_048
_SECONDS = 0.5


@dataclass(frozen=True)
class Layers:
    """A transformer's sizes, as far as they decide how much it computes."""

    layers: int
    hidden: int
    inner: int

    @classmethod
    def of(cls, model: str | Path) -> Layers:
        """Read from a model folder's ``config.json`` (BERT's names)."""
        config = json.loads(Path(model, "config.json").read_text(encoding="utf-8"))
        names = ("num_hidden_layers", "hidden_size", "intermediate_size")
        return cls(*(int(config[name]) for name in names))

    @property
    def products(self) -> list[tuple[int, int]]:
        """Inputs and outputs of each product with weights that a token goes through."""
        h, inner = self.hidden, self.inner
        return [*[(h, h)] * 4, (h, inner), (inner, h)] * self.layers

    def flop(self, lengths: Sequence[int]) -> float:
        """Operations for texts of so many tokens: weights and attention, two for each multiply-add.

        Attention compares every token of a text with every other: ``q k'`` and the weighted sum of
        ``v`` are ``2 n n hidden`` operations each in a layer. Padding does not count.
        """
        tokens = np.asarray(lengths, np.float64)
        weights = 2.0 * sum(a * b for a, b in self.products)
        attention = 4.0 * self.hidden * self.layers
        return float((weights * tokens + attention * tokens**2).sum())


class Products:
    """Times chains of products in PyTorch and in OpenVINO (both by oneDNN), both in bf16."""

    def __init__(self, model: str, tokens: int) -> None:
        layers = Layers.of(model)
        chains = {
            f"{_SIDE} x {_SIDE} x {_SIDE}": (_SIDE, [(_SIDE, _SIDE)] * 4),
            f"the model's own, {tokens:,} tokens": (tokens, layers.products),
        }
        self._runs = {}
        for name, (rows, shapes) in chains.items():
            flop = 2.0 * rows * sum(a * b for a, b in shapes)
            self._runs[f"PyTorch, {name}"] = (flop, _in_torch(rows, shapes))
            self._runs[f"OpenVINO, {name}"] = (flop, _in_openvino(rows, shapes))

    def timed(self) -> dict[str, Any]:
        """Operations per second of each kind."""
        began = time.perf_counter()
        rates = {name: flop * _repeats(run) for name, (flop, run) in self._runs.items()}
        return {"seconds": time.perf_counter() - began, "flop_per_s": rates}


def _repeats(run: Callable[[], Any]) -> float:
    """Runs per second, warm."""
    run()
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < _SECONDS:
        run()
        count += 1
    return count / passed


def _in_torch(rows: int, shapes: Sequence[tuple[int, int]]) -> Callable[[], Any]:
    import torch

    weights = [torch.randn(a, b).div_(a**0.5).bfloat16() for a, b in shapes]
    given = torch.randn(rows, shapes[0][0]).bfloat16()

    def run() -> Any:
        states = given
        with torch.inference_mode():
            for weight in weights:
                states = torch.mm(states, weight)
        return states

    return run


def _in_openvino(rows: int, shapes: Sequence[tuple[int, int]]) -> Callable[[], Any]:
    from semsearch.encoders.runtimes.graph import import_openvino

    openvino = import_openvino()
    from openvino import opset13 as operations

    random = np.random.default_rng(0)
    given = operations.parameter([rows, shapes[0][0]], np.float32)
    states: Any = given
    for a, b in shapes:
        weight = (random.standard_normal((a, b)) / a**0.5).astype(np.float32)
        states = operations.matmul(states, operations.constant(weight), False, False)
    hints = {"INFERENCE_PRECISION_HINT": "bf16", "PERFORMANCE_HINT": "LATENCY"}
    request = (
        openvino.Core()
        .compile_model(openvino.Model([states], [given]), "CPU", hints)
        .create_infer_request()
    )
    feed = random.standard_normal((rows, shapes[0][0])).astype(np.float32)
    return lambda: request.infer([feed], share_inputs=True)
