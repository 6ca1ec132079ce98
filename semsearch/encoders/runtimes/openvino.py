"""The OpenVINO runtime: the fast way on a CPU, and no PyTorch once the graph is converted."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semsearch.encoders.runtimes import graph
from semsearch.encoders.runtimes.contract import OutOfMemory
from semsearch.errors import ModelError, StorageError

if TYPE_CHECKING:
    from semsearch.encoders.folder import ModelConfig
    from semsearch.types import Floats, Ints

log = logging.getLogger("semsearch")

_HINTS = {"float32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoRuntime:
    """Runs the converted graph on the CPU.

    ``auto`` means bf16 where the processor multiplies it natively, else float32.
    """

    name = "openvino"
    workers = 1
    budget = 2_048
    multiple = 8

    def __init__(self, config: ModelConfig, fingerprint: str, precision: str = "auto") -> None:
        """Load the graph, or convert it first. Raises ImportError and ModelError."""
        openvino = graph.import_openvino()
        self.precision = ("bf16" if has_bf16() else "float32") if precision == "auto" else precision
        folder = graph.graph_folder(fingerprint, openvino.__version__)
        core = openvino.Core()
        model: Any = folder / "graph.xml"
        if not graph.is_whole(folder):
            log.info("converting %s for OpenVINO (once)", config.folder)
            model = graph.convert(config)
            try:
                graph.save(model, folder)
                model = folder / "graph.xml"
            except StorageError as exc:
                log.warning("the converted model is not kept: %s", exc)
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "PERFORMANCE_HINT": "LATENCY",
        }
        if isinstance(model, Path):
            settings["CACHE_DIR"] = str(folder / "compiled")
        try:
            self._compiled: Any = core.compile_model(model, "CPU", settings)
        except RuntimeError as exc:
            raise ModelError(f"{folder}: OpenVINO cannot compile it: {_first(exc)}") from exc
        self._requests = threading.local()

    def run(self, ids: Ints, mask: Ints, prompt_length: int = 0) -> Floats:
        """See the contract; models that leave their prompt out of pooling run on torch."""
        request = getattr(self._requests, "request", None)
        if request is None:
            request = self._requests.request = self._compiled.create_infer_request()
        try:
            request.infer({"input_ids": ids, "attention_mask": mask}, share_inputs=True)
            vectors: Floats = request.get_output_tensor(0).data.astype("float32", copy=True)
        except MemoryError as exc:
            raise OutOfMemory(str(exc)) from exc
        except RuntimeError as exc:
            if "alloc" in str(exc) or "memory" in str(exc):
                raise OutOfMemory(str(exc)) from exc
            raise ModelError(f"the model failed: {_first(exc)}") from exc
        return vectors


def has_bf16() -> bool:
    """Whether this processor multiplies bf16 matrices natively (AVX512-BF16 or AMX)."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _first(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1] if lines else type(exc).__name__
