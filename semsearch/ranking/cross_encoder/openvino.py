"""Cross-encoders on OpenVINO: converted once, then no PyTorch is loaded."""

from __future__ import annotations

import hashlib
import logging
from queue import LifoQueue
from typing import TYPE_CHECKING, Any

from semsearch.encoders.fingerprint import fingerprint
from semsearch.encoders.runtimes.contract import OutOfMemory
from semsearch.encoders.runtimes.graph import GRAPH, graph_folder, import_openvino, save
from semsearch.encoders.runtimes.openvino import has_bf16
from semsearch.encoders.sealed import is_whole
from semsearch.errors import ModelError, StorageError
from semsearch.threads import thread_count

if TYPE_CHECKING:
    from semsearch.ranking.cross_encoder.folder import CrossConfig
    from semsearch.ranking.cross_encoder.pairs import Features, PairTokens
    from semsearch.types import Floats

log = logging.getLogger("semsearch")

_LAYOUT = 1
"""Changes when the conversion changes: graphs of another layout are not used."""

_HINTS = {"float32": "f32", "bf16": "bf16", "fp16": "f16"}


class OpenVinoPairs:
    """Runs the converted graph of a plain cross-encoder on the CPU, a batch on each core.

    ``auto`` means bf16 where the processor multiplies it natively, else float32.
    """

    name = "openvino"
    budget = 1_024
    multiple = 8

    def __init__(self, config: CrossConfig, tokens: PairTokens, precision: str) -> None:
        """Load the graph, or make it first. Raises ImportError and ModelError."""
        openvino = import_openvino()
        native = "bf16" if has_bf16() else "float32"
        self.precision = native if precision == "auto" else precision
        self.workers = thread_count()
        # A kept graph is not compared with the library's layout again: what that depends on counts.
        side = config.model.tokenizer.get("padding_side", "right")
        identity = f"cross-encoder {_LAYOUT} {side} {fingerprint(config.model)}"
        folder = graph_folder(hashlib.sha256(identity.encode()).hexdigest(), openvino.__version__)
        source: Any = folder / GRAPH
        if not is_whole(folder):
            log.info("converting %s for OpenVINO (once)", config.model.folder)
            graph = _convert(config, tokens)
            try:
                save(graph, folder)
            except StorageError as exc:
                log.warning("the converted model is not kept: %s", exc)
                source = graph
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
            "NUM_STREAMS": str(self.workers),
            "INFERENCE_NUM_THREADS": str(self.workers),
        }
        try:
            compiled = openvino.Core().compile_model(source, "CPU", settings)
        except RuntimeError as exc:
            raise ModelError(f"{folder}: OpenVINO cannot load it: {_last_line(exc)}") from exc
        self._names = [port.get_any_name() for port in compiled.inputs]
        self._idle: LifoQueue[Any] = LifoQueue()
        for _ in range(self.workers):
            self._idle.put(compiled.create_infer_request())

    def run(self, features: Features) -> Floats:
        """See the contract."""
        request = self._idle.get()
        try:
            request.infer({name: features[name] for name in self._names}, share_inputs=True)
            scores: Floats = request.get_output_tensor(0).data.astype("float32", copy=True)
        except MemoryError as exc:
            raise OutOfMemory(str(exc)) from exc
        except RuntimeError as exc:
            if "alloc" in str(exc) or "memory" in str(exc):
                raise OutOfMemory(str(exc)) from exc
            raise ModelError(f"the model failed: {_last_line(exc)}") from exc
        finally:
            self._idle.put(request)
        return scores.reshape(-1)


def _convert(config: CrossConfig, tokens: PairTokens) -> Any:
    """The chain as an OpenVINO model: features int64 (B, L) in, scores float32 (B, 1) out.

    Raises ModelError, also for a model whose tokens are not what we would give it.
    """
    import torch

    from semsearch.encoders.runtimes.torch import quiet
    from semsearch.ranking.cross_encoder.torch import inputs_of, load_cross_encoder

    openvino = import_openvino()
    folder = config.model.folder
    model = load_cross_encoder(config, "cpu")
    names = inputs_of(model, tokens, config.prompt)
    if names is None:
        raise ModelError(f"{folder}: its pairs are laid out in a way that only torch serves")
    rows = tokens.tokenize([("a query", "a passage of more words"), ("what", "that")])
    batch = tokens.batch(rows, 1)
    example = {name: torch.from_numpy(batch[name]) for name in names}
    try:
        with torch.inference_mode(), quiet():
            graph = openvino.convert_model(_scores_of(model), example_input=example)
    except Exception as exc:  # many kinds, from tracing and from the converter
        reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise ModelError(f"{folder}: cannot be converted for OpenVINO: {reason}") from exc
    for port in graph.inputs:
        port.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
    graph.validate_nodes_and_infer_types()
    return graph


def _scores_of(model: Any) -> Any:
    """A torch module that calls a CrossEncoder's modules in turn."""
    import torch

    class Scores(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, input_ids: Any, attention_mask: Any, token_type_ids: Any | None = None
        ) -> Any:
            features = {"input_ids": input_ids, "attention_mask": attention_mask}
            if token_type_ids is not None:
                features["token_type_ids"] = token_type_ids
            return self.model(features)["scores"]

    return Scores().eval()


def _last_line(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1] if lines else type(exc).__name__
