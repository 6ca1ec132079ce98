"""The PyTorch runtime: the module chain of a SentenceTransformer, on any device.

Only safetensors are read, remote code is never run and nothing is fetched. On CUDA the texts of a
batch are packed into one row where the model allows it, and the host never waits for the device:
batches are copied there, computed and copied back while the next ones are being prepared.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from semsearch.encoders.batching import run_halving
from semsearch.encoders.runtimes.contract import Batch, OutOfMemory, Output
from semsearch.encoders.runtimes.packed import (
    kept_positions,
    packed_features,
    padded_features,
    provable_offset,
    without_packing,
)
from semsearch.errors import ModelError

if TYPE_CHECKING:
    import torch

    from semsearch.encoders.folder import ModelConfig
    from semsearch.encoders.runtimes.packed import Features
    from semsearch.types import Bools, Floats, Ints

log = logging.getLogger("semsearch")

_DTYPES = {"float32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_AHEAD = 2
"""Batches that are queued on the device behind the one that is waited for."""

_TINY = 1e-30
"""Divides the length of a zero vector, which stays zero."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' warnings and progress bars from the user: we say what matters."""
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    level = transformers_logging.get_verbosity()
    other = logging.getLogger("sentence_transformers")
    other_level = other.level
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    other.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        other.setLevel(other_level)
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


class _Flying(NamedTuple):
    """A batch on its way: what went in, and where its vectors will be once ``done``.

    ``found`` holds the texts' vectors and, where asked for, their tokens'.
    """

    batch: Batch
    prompt_length: int
    precision: str
    found: list[torch.Tensor]
    done: torch.cuda.Event | None


class TorchRuntime:
    """Runs on ``device`` (``cpu``, ``cuda``, ``cuda:1``, ``mps``) in one precision.

    ``auto`` means fp16 on CUDA and float32 elsewhere. Where fp16 overflows (some models do), the
    batch is computed again in float32, and so is every later one. ``packed`` asks for texts without
    padding, if the model gives the same vectors so; by default on CUDA.
    """

    name = "torch"
    workers = 1

    def __init__(
        self,
        config: ModelConfig,
        precision: str = "auto",
        device: str | None = None,
        *,
        packed: bool | None = None,
    ) -> None:
        import torch

        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._on_cuda = self.device.startswith("cuda")
        self.precision = precision
        if precision == "auto":
            self.precision = "fp16" if self._on_cuda else "float32"
        self.budget = 65_536 if self._on_cuda else 4_096
        self._token_type = torch.float16 if self._on_cuda else torch.float32
        self._model = load_model(config, self.device, _DTYPES[self.precision])
        self._offset: int | None = None
        self._lock = threading.Lock()  # the model's form does not change while it is used
        if self._on_cuda if packed is None else packed:
            with quiet(), translated():
                self._offset = provable_offset(self._model, config.max_length, self._vectors)
        self.multiple = 8 if self._on_cuda and not self.packs else 1

    @property
    def packs(self) -> bool:
        """Whether batches are computed without their padding."""
        return self._offset is not None

    def run(
        self,
        ids: Ints,
        mask: Ints,
        keep: Bools | None = None,
        *,
        prompt_length: int = 0,
        many: bool = False,
    ) -> Output:
        """See the contract; one form serves both one batch and many."""
        return self._land(self._launch(Batch(ids, mask, keep), prompt_length))

    def stream(self, batches: Iterable[Batch], *, prompt_length: int = 0) -> Iterator[Output]:
        """See the contract. After the device ran out of memory, ``budget`` is lower."""
        flying: deque[_Flying] = deque()
        for batch in batches:
            try:
                flying.append(self._launch(batch, prompt_length))
            except OutOfMemory:
                yield from map(self._land, flying)
                flying.clear()
                yield run_halving(self, *batch, prompt_length=prompt_length, many=True)
            while len(flying) > _AHEAD:
                yield self._land(flying.popleft())
        yield from map(self._land, flying)

    def _launch(self, batch: Batch, prompt_length: int) -> _Flying:
        """Queue a batch; on CUDA nothing here waits for the device."""
        ids, mask, keep = batch
        try:
            with self._lock, translated():
                if self._offset is None:
                    features = padded_features(ids, mask)
                else:
                    features = packed_features(ids, mask, self._offset)
                if prompt_length:
                    features["prompt_length"] = prompt_length
                precision = self.precision
                kept = None if keep is None else kept_positions(keep, mask, packed=self.packs)
                found, done = self._copied_back(self._computed(features, kept))
        except OutOfMemory:
            self.budget = max(1, min(self.budget, ids.size // 2))
            if self._on_cuda:
                import torch

                torch.cuda.empty_cache()
            raise
        return _Flying(batch, prompt_length, precision, found, done)

    def _land(self, flying: _Flying) -> Output:
        """Wait for a batch."""
        with translated():
            if flying.done is not None:
                flying.done.synchronize()
        if flying.precision != "fp16" or all(bool(t.isfinite().all()) for t in flying.found):
            return Output(*(tensor.numpy() for tensor in flying.found))
        self._widen()
        return run_halving(self, *flying.batch, prompt_length=flying.prompt_length)

    def _widen(self) -> None:
        with self._lock:
            if self.precision != "fp16":
                return
            log.warning("fp16 overflows in this model: continuing in float32")
            self.precision = "float32"
            self._model.float()
            if self._on_cuda and self.packs:  # its flash attention is for half precision only
                without_packing(self._model)
                self._offset = None

    def _computed(self, features: Features, kept: Ints | None = None) -> list[torch.Tensor]:
        """The model's vectors float32 (B, width), on the device.

        With ``kept``, int64 (n,), also the unit vectors (n, token width) of the tokens at those
        positions; float16 on CUDA, which spares the way back, else float32.
        """
        import torch

        with torch.inference_mode():
            moved = {name: self._moved(value) for name, value in features.items()}
            made = self._model(moved)
            found: list[torch.Tensor] = [made["sentence_embedding"].float()]
            if kept is not None:
                rows = made["token_embeddings"].flatten(0, 1)[self._moved(kept)].float()
                norms = rows.norm(dim=1, keepdim=True).clamp_min(_TINY)
                found.append((rows / norms).to(self._token_type))
            return found

    def _moved(self, value: Ints | int) -> Any:
        """An array as a tensor on the device; other values as they are."""
        import torch

        if isinstance(value, int):
            return value
        tensor = torch.from_numpy(value)
        if self._on_cuda:  # only from pinned memory does a copy not wait
            tensor = tensor.pin_memory()
        return tensor.to(self.device, non_blocking=self._on_cuda)

    def _copied_back(
        self, tensors: list[torch.Tensor]
    ) -> tuple[list[torch.Tensor], torch.cuda.Event | None]:
        """Tensors on the host, and the event after which they may be read."""
        import torch

        if not self._on_cuda:
            return [tensor.cpu() for tensor in tensors], None
        host = [torch.empty(t.shape, dtype=t.dtype, pin_memory=True) for t in tensors]
        for there, here in zip(tensors, host, strict=True):
            here.copy_(there, non_blocking=True)
        done: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(tensors[0].device))
        return host, done

    def _vectors(self, features: Features) -> Floats:
        found: Floats = self._computed(features)[0].cpu().numpy()
        return found


@contextmanager
def translated() -> Iterator[None]:
    """PyTorch's errors as ours: OutOfMemory and ModelError."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as exc:
        raise OutOfMemory(str(exc)) from exc
    except RuntimeError as exc:
        if "memory" in str(exc):  # the CPU's allocator has no error class of its own
            raise OutOfMemory(str(exc)) from exc
        raise ModelError(f"the model failed: {str(exc).splitlines()[0]}") from exc
