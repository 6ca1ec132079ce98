"""Which runtime computes, decided without importing any."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from semsearch.encoders.runtimes.contract import Runtime
from semsearch.errors import MissingExtra, ModelError, UsageError

if TYPE_CHECKING:
    from semsearch.encoders.folder import ModelConfig

log = logging.getLogger("semsearch")

RuntimeName: TypeAlias = Literal["auto", "torch", "openvino"]
Precision: TypeAlias = Literal["auto", "float32", "bf16", "fp16", "int8"]


def open_runtime(
    config: ModelConfig,
    runtime: RuntimeName,
    precision: Precision,
    device: str | None,
    *,
    or_auto: bool = False,
) -> Callable[[str], Runtime]:
    """What starts the runtime, given the model's fingerprint. Raises UsageError at once.

    With ``or_auto``, where int8 cannot be computed ``auto`` starts instead, with one warning.
    """
    if runtime not in get_args(RuntimeName) or precision not in get_args(Precision):
        raise UsageError(f"unknown runtime {runtime!r} or precision {precision!r}")
    if runtime == "openvino" and device not in (None, "cpu"):
        raise UsageError(f"the openvino runtime computes on the CPU, not on {device!r}: use torch")
    if precision == "int8" and (runtime == "torch" or device not in (None, "cpu")):
        raise UsageError(
            "precision int8 needs the openvino runtime on a CPU: leave one of them out"
        )

    def start(fingerprint: str) -> Runtime:
        if precision != "int8":
            return _float(config, fingerprint, runtime, precision, device)
        try:
            return _openvino(config, fingerprint, precision)
        except (ImportError, ModelError, UsageError) as exc:
            if not or_auto:
                raise
            started = _float(config, fingerprint, runtime, "auto", device)
            # Five sets with queries in bf16 only, three with half of the documents: -0.0025 to
            # +0.0036; faquad-pt, of 249 documents, has both ends.
            log.warning(
                "%s is mixed with int8 here (nDCG@10 fell by at most 0.003 where measured): %s",
                started.precision,
                exc,
            )
            return started

    return start


def _float(
    config: ModelConfig,
    fingerprint: str,
    runtime: RuntimeName,
    precision: Precision,
    device: str | None,
) -> Runtime:
    """Whatever computes any precision but int8."""
    if runtime == "openvino" or (runtime == "auto" and prefers_openvino(device)):
        try:
            return _openvino(config, fingerprint, precision)
        except (ImportError, ModelError) as exc:
            if runtime == "openvino":
                raise
            log.warning("encoding with torch, which is slower here: %s", exc)
    return _torch(config, precision, device)


def _openvino(config: ModelConfig, fingerprint: str, precision: Precision) -> Runtime:
    if leaves_prompt_out(config):
        raise ModelError(f"{config.folder}: leaves its prompt out of pooling: runs on torch only")
    if importlib.util.find_spec("openvino") is None:
        raise MissingExtra("openvino", "cpu", "the openvino runtime")
    from semsearch.encoders.runtimes.openvino import OpenVinoRuntime

    return OpenVinoRuntime(config, fingerprint, precision)


def _torch(config: ModelConfig, precision: Precision, device: str | None) -> Runtime:
    import torch

    if device is None and (seen := torch.cuda.device_count()) > 1:
        from semsearch.encoders.runtimes.devices import DevicesRuntime

        return DevicesRuntime(config, precision, [f"cuda:{i}" for i in range(seen)])
    from semsearch.encoders.runtimes.torch import TorchRuntime

    return TorchRuntime(config, precision, device)


def leaves_prompt_out(config: ModelConfig) -> bool:
    """Whether pooling skips the prompt's tokens, as INSTRUCTOR models do."""
    return not config.include_prompt and bool(config.query_prompt or config.document_prompt)


def prefers_openvino(device: str | None) -> bool:
    """Whether ``auto`` means OpenVINO: on a CPU, and where no NVIDIA device is there."""
    if device is not None:
        return device == "cpu"
    if not sees_nvidia():
        return True
    import torch

    return not torch.cuda.is_available()


def sees_nvidia() -> bool:
    """Whether an NVIDIA device may be there, at the cost of a look at the file system."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()
