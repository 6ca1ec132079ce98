"""The OpenVINO runtime: the fast way on a CPU, and no PyTorch once the graph is converted."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from semsearch.encoders.runtimes import graph
from semsearch.encoders.runtimes.contract import OutOfMemory, Output
from semsearch.encoders.sealed import is_whole, publish
from semsearch.errors import ModelError, StorageError, UsageError
from semsearch.threads import thread_count

if TYPE_CHECKING:
    from semsearch.encoders.folder import ModelConfig
    from semsearch.types import Bools, Floats, Ints

log = logging.getLogger("semsearch")

_HINTS = {"float32": "f32", "bf16": "bf16", "fp16": "f16"}
_INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})


class OpenVinoRuntime:
    """Runs the converted graph on the CPU.

    ``auto`` means bf16 where the processor multiplies it natively, else float32; in ``int8`` the
    large matrix products are int8 and the rest is what ``auto`` means. One batch gets all
    cores; of many batches every core gets its own, which spares the cores waiting for each other.
    """

    name = "openvino"
    # Documents a processor second, medians of 3 rounds, bf16: with 1,024 tokens 53.5 long and 780
    # short ones, with 4,096 53.0 and 743, with 8,192 50.2 and 623.
    budget = 1_024
    multiple = 8

    def __init__(self, config: ModelConfig, fingerprint: str, precision: str = "auto") -> None:
        """Load the graph, or make it first. Raises ImportError, ModelError and UsageError."""
        openvino = graph.import_openvino()
        if precision == "int8" and not has_int8():
            raise UsageError("precision int8 needs a processor with VNNI or AMX; auto runs on any")
        native = "bf16" if has_bf16() else "float32"
        self.precision = native if precision == "auto" else precision
        self._hint = _HINTS[native if precision == "int8" else self.precision]
        self.workers = thread_count()
        self._core = openvino.Core()
        folder = graph.graph_folder(fingerprint, openvino.__version__)
        int8_folder = graph.graph_folder(fingerprint, openvino.__version__, int8=True)
        self._folder = int8_folder if precision == "int8" else folder
        self._model: Any = self._folder / graph.GRAPH
        if not is_whole(self._folder):
            self._model = self._kept(self._made(config, folder, precision))
        self._lock = threading.Lock()
        self._compiled: dict[bool, Any] = {}
        self._requests = threading.local()

    def _made(self, config: ModelConfig, folder: Path, precision: str) -> Any:
        """The graph; ``folder`` is where its float form is, or would be."""
        if precision == "int8" and is_whole(folder):
            model = self._core.read_model(folder / graph.GRAPH)
        else:
            log.info("converting %s for OpenVINO (once)", config.folder)
            model = graph.convert(config)
        if precision != "int8":
            return model
        from semsearch.encoders.runtimes.int8 import quantised

        log.info("making the int8 form of %s (once)", config.folder)
        return quantised(model, config)

    def _kept(self, model: Any) -> Any:
        """Where a new graph was written, or itself where it could not be."""
        try:
            graph.save(model, self._folder)
        except StorageError as exc:
            log.warning("the converted model is not kept: %s", exc)
            return model
        return self._folder / graph.GRAPH

    def _compile(self, *, many: bool) -> Any:
        settings = {"INFERENCE_PRECISION_HINT": self._hint}
        if many:
            settings |= {"NUM_STREAMS": str(self.workers)}
            settings |= {"INFERENCE_NUM_THREADS": str(self.workers)}
        else:
            settings |= {"PERFORMANCE_HINT": "LATENCY"}
        if not isinstance(self._model, Path):
            return self._load(settings)
        # The compiled form is kept without the weights, which stay in the graph's own file.
        settings |= {"CACHE_MODE": "OPTIMIZE_SIZE"}
        folder = self._compiled_folder(settings)
        if is_whole(folder):
            return self._load({**settings, "CACHE_DIR": str(folder)})
        made: list[Any] = []
        try:
            publish(
                folder, lambda new: made.append(self._load({**settings, "CACHE_DIR": str(new)}))
            )
        except StorageError as exc:
            log.warning("the compiled model is not kept: %s", exc)
        return made[0] if made else self._load(settings)

    def _compiled_folder(self, settings: dict[str, str]) -> Path:
        """One folder for each processor and setting, inside the graph's.

        OpenVINO's own cache does not tell precisions apart: a form compiled for float32 and loaded
        for bf16 computes garbage. Nor does it write so that another process sees whole files only.
        """
        graph_file = str(self._model), self._model.stat().st_mtime_ns
        what = json.dumps([settings, processor(), graph_file], sort_keys=True)
        return self._folder / f"compiled-{hashlib.sha256(what.encode()).hexdigest()[:16]}"

    def _load(self, settings: dict[str, str]) -> Any:
        try:
            return self._core.compile_model(self._model, "CPU", settings)
        except RuntimeError as exc:
            raise ModelError(f"{self._folder}: OpenVINO cannot load it: {_first(exc)}") from exc

    def _request(self, *, many: bool) -> Any:
        """This thread's own request for inference."""
        held: dict[str, Any] = self._requests.__dict__
        key = "many" if many else "one"
        if key not in held:
            with self._lock:
                if many not in self._compiled:
                    self._compiled[many] = self._compile(many=many)
            held[key] = self._compiled[many].create_infer_request()
        return held[key]

    def run(
        self,
        ids: Ints,
        mask: Ints,
        keep: Bools | None = None,
        *,
        prompt_length: int = 0,
        many: bool = False,
    ) -> Output:
        """See the contract; models that leave their prompt out of pooling run on torch."""
        request = self._request(many=many)
        try:
            # Unless they are shared, every output is copied, the tokens' too, which most calls
            # do not read.
            request.infer(
                {"input_ids": ids, "attention_mask": mask}, share_inputs=True, share_outputs=True
            )
            vectors: Floats = request.get_output_tensor(0).data.astype("float32", copy=True)
            tokens = None if keep is None else _kept(request.get_output_tensor(1).data, keep)
        except MemoryError as exc:
            raise OutOfMemory(str(exc)) from exc
        except RuntimeError as exc:
            if "alloc" in str(exc) or "memory" in str(exc):
                raise OutOfMemory(str(exc)) from exc
            raise ModelError(f"the model failed: {_first(exc)}") from exc
        return Output(vectors, tokens)


def _kept(rows: Floats, keep: Bools) -> Floats:
    """The unit vectors float32 (n, width) of the kept tokens of rows (B, L, width)."""
    found: Floats = rows.reshape(-1, rows.shape[-1]).take(np.flatnonzero(keep), axis=0)
    norms = np.sqrt(np.einsum("ij,ij->i", found, found))
    found /= np.maximum(norms, np.finfo(np.float32).tiny)[:, None]
    return found


def processor() -> str:
    """What this processor can do, in one text; empty where the system does not say."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return next((line for line in text.splitlines() if line.startswith("flags")), "")


def has_bf16() -> bool:
    """Whether this processor multiplies bf16 matrices natively (AVX512-BF16 or AMX)."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(processor().split())


def has_int8() -> bool:
    """Whether this processor multiplies int8 matrices natively (VNNI or AMX)."""
    return not _INT8_FLAGS.isdisjoint(processor().split())


def _first(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1] if lines else type(exc).__name__
