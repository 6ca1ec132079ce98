"""The converted graph of a model: made once from PyTorch, kept in the user's cache folder."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semsearch.encoders.sealed import publish
from semsearch.errors import ModelError, StorageError
from semsearch.fs import cache_folder

if TYPE_CHECKING:
    from semsearch.encoders.folder import ModelConfig

GRAPH = "graph.xml"
_LAYOUT = 2
"""Changes when the conversion changes: graphs of another layout are not used."""

_INT8_LAYOUT = 2
"""The same for the int8 form."""


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
    _fill_tables(openvino)
    return openvino


def _fill_tables(openvino: Any) -> None:
    """Let the binding fill its tables of types now, while there is one thread.

    It does so at their first use, and two threads that come first together deadlock: one holds
    the table and waits for the interpreter's lock, the other the reverse.
    """
    import numpy as np

    for kind in (np.int64, np.float32):
        openvino.Tensor(np.zeros(1, kind)).data.sum()
    openvino.Type.i64.to_dtype()


def _late(name: str) -> Any:
    """The converter, which is half of OpenVINO's import time, when it is first asked for."""
    if name != "convert_model":
        raise AttributeError(f"module 'openvino' has no attribute {name!r}")
    return importlib.import_module("openvino.tools.ovc").convert_model


def graph_folder(fingerprint: str, version: str, *, int8: bool = False) -> Path:
    """Where the graph of a model, or its int8 form, is kept; ``version`` is OpenVINO's."""
    release = version.split("-")[0]
    kind = f"int8-{_INT8_LAYOUT}" if int8 else f"graph{_LAYOUT}"
    return cache_folder() / "openvino" / fingerprint / f"{kind}-{release}"


def convert(config: ModelConfig) -> Any:
    """The model's whole module chain as an OpenVINO model. Needs torch. Raises ModelError.

    Inputs ``input_ids`` and ``attention_mask``, int64 (B, L); outputs float32 (B, width), the
    texts' vectors, and (B, L, token width), their tokens'.
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
            features = self.model(features)
            return features["sentence_embedding"], features["token_embeddings"]

    return Chain().eval()


def save(graph: Any, folder: Path) -> None:
    """Write a converted graph durably under its final name. Raises StorageError."""

    def fill(temporary: Path) -> None:
        try:
            import_openvino().save_model(graph, temporary / GRAPH, compress_to_fp16=False)
        except RuntimeError as exc:
            raise StorageError(f"{folder}: cannot write: {str(exc).splitlines()[0]}") from exc

    publish(folder, fill)
