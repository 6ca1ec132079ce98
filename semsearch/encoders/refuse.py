"""What a model folder must not hold: code to run, pickles to load, files elsewhere to read.

A crafted configuration is refused here, before any library that would act on it sees it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from semsearch.encoders.readjson import read_json, read_object
from semsearch.errors import ModelError

_CODE_KEYS = frozenset(
    {
        "auto_map",
        "code_revision",
        "custom_generate",
        "custom_pipelines",
        "quantization_config",
        "trust_remote_code",
    }
)
_FETCH_KEYS = frozenset({"use_pretrained_backbone", "use_timm_backbone"})
_CONFIGS = ("*config*.json", "special_tokens_map.json", "chat_template.json")
"""Whatever the libraries may read, also where they have no business to."""

_KERNEL_KEYS = ("attn_implementation", "experts_implementation", "kernel", "use_kernels")
_LONGEST_NAME = 200
"""Bytes; no file system takes more than 255."""

_ACTIVATION = re.compile(r"torch\.nn\.modules\.(activation|linear)\.[A-Za-z]+")
_MODULE = re.compile(r"sentence_transformers(\.[a-z_]+)*\.([A-Z]\w*)")
_SETTINGS = {
    "model_args": frozenset({"dtype", "torch_dtype"}),
    "model_kwargs": frozenset({"dtype", "torch_dtype"}),
    "tokenizer_args": frozenset({"model_max_length"}),
    "processor_kwargs": frozenset({"model_max_length"}),
    "config_args": frozenset[str](),
    "config_kwargs": frozenset[str](),
    "processing_kwargs": frozenset[str](),
    "query_expansion": frozenset[str](),
}
CROSS_ENCODER = "scores pairs of texts (a cross-encoder): it can rerank, not encode"

_TASKS, _KINDS = frozenset({"feature-extraction"}), frozenset({"text"})
_PAIR_TASKS = _TASKS | {"sequence-classification", "text-generation"}
_PAIR_KINDS = _KINDS | {"message"}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt", "*.h5", "*.msgpack")


def module_kind(type_name: object, path: Path) -> str:
    """``Pooling`` from ``sentence_transformers.models.Pooling``; only the library's own modules."""
    found = _MODULE.fullmatch(type_name) if isinstance(type_name, str) else None
    if found is None:
        raise ModelError(f"{path}: module {type_name!r} is custom code, which is never run")
    return found[2]


def subfolder(folder: Path, relative: object, path: Path) -> Path:
    """A module's folder, which must lie inside the model's."""
    parts = PurePosixPath(relative).parts if isinstance(relative, str) else ("..",)
    if ".." in parts or "\\" in str(relative) or PurePosixPath(*parts).is_absolute():
        raise ModelError(f"{path}: module path {relative!r} leads out of the model folder")
    if not _may_be_name(str(relative)):
        raise ModelError(f"{path}: module path {str(relative)[:80]!r} ... is no name of a folder")
    return folder.joinpath(*parts)


def refuse_code(settings: Mapping[str, Any], path: Path) -> None:
    """Raise ModelError if a configuration names code or kernels to fetch, at any depth."""
    waiting: list[Any] = [settings]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        if not isinstance(value, dict):
            continue
        for key, inner in value.items():
            if key in _FETCH_KEYS and inner:
                raise ModelError(f"{path}: {key!r} asks for another model to be fetched")
            if key in _CODE_KEYS and inner:
                raise ModelError(f"{path}: {key!r} asks for code to be run, which is never done")
            if any(word in key for word in _KERNEL_KEYS) and "/" in str(inner):
                raise ModelError(f"{path}: {key!r} asks for a kernel to be fetched: {inner!r}")
        waiting.extend(value.values())


def refuse_code_in(folders: Iterable[Path]) -> None:
    """Raise ModelError if any configuration file of these folders names code, read by us or not.

    One that is not JSON is left to whoever reads it.
    """
    for folder in dict.fromkeys(folders):
        for pattern in _CONFIGS:
            for file in sorted(folder.glob(pattern)):
                try:
                    value = read_json(file)
                except ModelError:
                    continue
                refuse_code({"": value}, file)


def refuse_settings(settings: Mapping[str, Any], path: Path, *, pairs: bool = False) -> None:
    """Raise ModelError for settings of the Transformer module that we would not honour.

    ``pairs`` says that it is a cross-encoder's.
    """
    tasks, kinds = (_PAIR_TASKS, _PAIR_KINDS) if pairs else (_TASKS, _KINDS)
    for key, allowed in _SETTINGS.items():
        if pairs and key == "processing_kwargs":
            continue  # plain values that say how a pair is laid out
        extra = set(settings.get(key) or ()) - allowed
        if extra:
            raise ModelError(f"{path}: {key!r} holds {sorted(extra)}, which is not supported")
    task = settings.get("transformer_task", "feature-extraction")
    modalities = settings.get("modality_config") or {"text": {}}
    if task == "sequence-classification" and not pairs:
        raise ModelError(f"{path}: {CROSS_ENCODER}")
    if task not in tasks or not kinds >= set(modalities) > set():
        raise ModelError(f"{path}: not a plain text encoder (task {task!r}, {sorted(modalities)})")


def check_activation(settings: Mapping[str, Any], path: Path) -> None:
    """Raise ModelError if a Dense module's activation is not one of ``torch.nn``."""
    name = settings.get("activation_function", "torch.nn.modules.activation.Tanh")
    if not isinstance(name, str) or not _ACTIVATION.fullmatch(name):
        raise ModelError(f"{path}: activation {name!r} is not one of torch.nn's own")


def _may_be_name(name: str) -> bool:
    return "\0" not in name and len(name.encode("utf-8", "surrogatepass")) <= _LONGEST_NAME


def weight_files(folder: Path) -> tuple[Path, ...]:
    """A module's safetensors files, sorted. Raises ModelError if there are none."""
    if (folder / "adapter_config.json").exists():
        raise ModelError(f"{folder}: an adapter without its base model: merge and save it first")
    single = folder / "model.safetensors"
    if single.is_file():
        return (single,)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = {str(name) for name in dict(read_object(index).get("weight_map") or {}).values()}
        files = tuple(folder / name for name in sorted(names))
        for name, file in zip(sorted(names), files, strict=True):
            if PurePosixPath(name).name != name or not (_may_be_name(name) and file.is_file()):
                raise ModelError(f"{index}: weights {name!r} are not in the model folder")
        if files:
            return files
    if any(next(folder.glob(pattern), None) for pattern in _PICKLES):
        raise ModelError(
            f"{folder}: only pickled weights, which can run code: load and save the model with "
            "sentence-transformers to get model.safetensors"
        )
    raise ModelError(f"{folder}: model.safetensors is missing; the model folder is incomplete")
