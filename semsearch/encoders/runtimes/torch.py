"""The PyTorch runtime: the module chain of a SentenceTransformer, on any device.

Only safetensors are read, remote code is never run and nothing is fetched.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from semsearch.encoders.runtimes.contract import OutOfMemory
from semsearch.errors import ModelError

if TYPE_CHECKING:
    from semsearch.encoders.folder import ModelConfig
    from semsearch.types import Floats, Ints

log = logging.getLogger("semsearch")

_DTYPES = {"float32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' warnings and progress bars from the user: we say what matters."""
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    level = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def load_model(config: ModelConfig, device: str, dtype: str = "float32") -> Any:
    """The folder as a ``SentenceTransformer`` in evaluation mode. Raises ModelError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from sentence_transformers import SentenceTransformer

    try:
        with quiet():
            model = SentenceTransformer(
                str(config.folder),
                device=device,
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True, "dtype": getattr(torch, dtype)},
            )
    except Exception as exc:  # many kinds, from the library and from what it builds on
        reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise ModelError(f"{config.folder}: cannot be loaded: {reason}") from exc
    return model.eval()


class TorchRuntime:
    """Runs on ``device`` (``cpu``, ``cuda``, ``cuda:1``, ``mps``) in one precision.

    ``auto`` means fp16 on CUDA and float32 elsewhere. Where fp16 overflows (some models do), the
    batch is computed again in float32, and so is every later one.
    """

    name = "torch"
    workers = 1

    def __init__(
        self, config: ModelConfig, precision: str = "auto", device: str | None = None
    ) -> None:
        import torch

        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.device = chosen
        on_cuda = chosen.startswith("cuda")
        self.precision = ("fp16" if on_cuda else "float32") if precision == "auto" else precision
        self.budget = 65_536 if on_cuda else 4_096
        self.multiple = 8 if on_cuda else 1
        self._model = load_model(config, chosen, _DTYPES[self.precision])

    def run(self, ids: Ints, mask: Ints, *, prompt_length: int = 0, many: bool = False) -> Floats:
        """See the contract; one form serves both one batch and many."""
        import torch

        try:
            vectors = self._forward(ids, mask, prompt_length)
            if self.precision == "fp16" and not bool(torch.isfinite(vectors).all()):
                log.warning("fp16 overflows in this model: continuing in float32")
                self._model.float()
                self.precision = "float32"
                vectors = self._forward(ids, mask, prompt_length)
        except torch.OutOfMemoryError as exc:
            if self.device.startswith("cuda"):
                torch.cuda.empty_cache()
            raise OutOfMemory(str(exc)) from exc
        except RuntimeError as exc:
            if "memory" in str(exc):  # the CPU's allocator has no error class of its own
                raise OutOfMemory(str(exc)) from exc
            raise ModelError(f"the model failed: {str(exc).splitlines()[0]}") from exc
        result: Floats = vectors.cpu().numpy()
        return result

    def _forward(self, ids: Ints, mask: Ints, prompt_length: int) -> Any:
        import torch

        features: dict[str, Any] = {
            "input_ids": torch.from_numpy(ids).to(self.device),
            "attention_mask": torch.from_numpy(mask).to(self.device),
        }
        if prompt_length:
            features["prompt_length"] = prompt_length
        with torch.inference_mode():
            return self._model(features)["sentence_embedding"].float()
