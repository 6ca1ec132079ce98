"""The converted graph of a model: made once from PyTorch, kept in the user's cache folder.

A graph's folder appears under its name only when it is complete, and holds the SHA-256 of its
files: a damaged graph is converted again.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semsearch.encoders.digests import file_digest
from semsearch.errors import ModelError, StorageError
from semsearch.fs import cache_folder, make_folder, storage_errors, sync_file, sync_folder

if TYPE_CHECKING:
    from semsearch.encoders.folder import ModelConfig

_FILES = ("graph.xml", "graph.bin")
_LAYOUT = 1
"""Changes when the conversion changes: graphs of another layout are not used."""


def import_openvino() -> Any:
    """The ``openvino`` package with its telemetry left out. Raises ImportError if it is missing.

    A bare import starts a thread that reports over the network and writes to the home folder;
    without the telemetry package OpenVINO falls back to a stub of its own.
    """
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]
    try:
        openvino = importlib.import_module("openvino")
    finally:
        del sys.modules["openvino.tools.ovc"]
    vars(openvino).setdefault("__getattr__", _late)
    return openvino


def _late(name: str) -> Any:
    """The converter, which is half of OpenVINO's import time, when it is first asked for."""
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")
    return importlib.import_module("openvino.tools.ovc").convert_model


def graph_folder(fingerprint: str, version: str) -> Path:
    """Where the graph of a model is kept; ``version`` is OpenVINO's."""
    release = version.split("-")[0]
    return cache_folder() / "openvino" / fingerprint / f"graph{_LAYOUT}-{release}"


def is_whole(folder: Path) -> bool:
    """Whether a graph is there and its files are those that were written."""
    try:
        noted = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return all(file_digest(folder / name) == noted[name] for name in _FILES)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def convert(config: ModelConfig) -> Any:
    """The model's whole module chain as an OpenVINO model. Needs torch. Raises ModelError.

    Inputs ``input_ids`` and ``attention_mask``, int64 (B, L); output float32 (B, width).
    """
    import torch

    from semsearch.encoders.runtimes.torch import load_model, quiet

    openvino = import_openvino()
    example = {
        "input_ids": torch.ones((2, 8), dtype=torch.int64),
        "attention_mask": torch.tensor([[1] * 8, [1] * 5 + [0] * 3]),
    }
    chain = _chain(load_model(config, "cpu"))
    try:
        with torch.inference_mode(), quiet():
            graph = openvino.convert_model(chain, example_input=example)
    except Exception as exc:  # many kinds, from tracing and from the converter
        reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise ModelError(f"{config.folder}: cannot be converted for OpenVINO: {reason}") from exc
    for port, name in zip(graph.inputs, example, strict=True):
        port.get_node().set_friendly_name(name)
        port.get_tensor().set_names({name})
        port.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
    graph.validate_nodes_and_infer_types()
    return graph


def _chain(model: Any) -> Any:
    """A torch module that calls a SentenceTransformer's modules in turn."""
    import torch

    class Chain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            features = {"input_ids": input_ids, "attention_mask": attention_mask}
            return self.model(features)["sentence_embedding"]

    return Chain().eval()


def save(graph: Any, folder: Path) -> None:
    """Write a converted graph durably under its final name. Raises StorageError."""
    make_folder(folder.parent)
    temporary = folder.parent / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with storage_errors(folder):
            temporary.mkdir()
            try:
                import_openvino().save_model(
                    graph, str(temporary / _FILES[0]), compress_to_fp16=False
                )
            except RuntimeError as exc:
                raise StorageError(f"{folder}: cannot write: {str(exc).splitlines()[0]}") from exc
            noted = {name: file_digest(temporary / name) for name in _FILES}
            (temporary / "manifest.json").write_text(json.dumps(noted), encoding="utf-8")
            for name in (*_FILES, "manifest.json"):
                sync_file(temporary / name)
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # another process was first: its graph is the same
                temporary.rename(folder)
            sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
