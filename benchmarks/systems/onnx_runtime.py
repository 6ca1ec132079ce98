"""ONNX Runtime by hand: the exported float32 graph, batches by a budget of tokens, mean pooling."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.systems.contract import Encodes

if TYPE_CHECKING:
    from semsearch.types import Floats

_BUDGET = 4_096


class Encoder(Encodes):
    """What somebody would write who knows the runtime; for models that pool by the mean."""

    def __init__(self, model: str, max_length: int) -> None:
        import onnxruntime
        from optimum.exporters.onnx import main_export
        from tokenizers import Tokenizer

        self._version = onnxruntime.__version__
        with tempfile.TemporaryDirectory() as folder:
            main_export(model, folder, task="feature-extraction", library_name="transformers")
            graph = Path(folder, "model.onnx").read_bytes()
        self._session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self._inputs = {port.name for port in self._session.get_inputs()}
        self._tokenizer = Tokenizer.from_file(str(Path(model, "tokenizer.json")))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self.encode(["loaded before any clock runs"])

    def facts(self) -> dict[str, Any]:
        return {"versions": {"onnxruntime": self._version}}

    def encode(self, texts: list[str]) -> Floats:
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        parts, start = [], 0
        while start < len(order):
            longest = len(ids[order[start]])
            group = order[start : start + max(1, _BUDGET // longest)]
            parts.append(self._run([ids[i] for i in group], longest))
            start += len(group)
        vectors = np.empty((len(ids), parts[0].shape[1]), np.float32)
        vectors[order] = np.concatenate(parts)
        return vectors

    def _run(self, rows: list[list[int]], longest: int) -> Floats:
        tokens = np.zeros((len(rows), longest), np.int64)
        mask = np.zeros_like(tokens)
        for number, row in enumerate(rows):
            tokens[number, : len(row)] = row
            mask[number, : len(row)] = 1
        given = {
            "input_ids": tokens,
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(tokens),
        }
        wanted = {name: value for name, value in given.items() if name in self._inputs}
        states = self._session.run(["last_hidden_state"], wanted)[0]
        pooled = (states * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        vectors: Floats = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return vectors
