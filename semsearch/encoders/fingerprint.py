"""A model's identity: one SHA-256 over everything that shapes its vectors.

Two folders with the same weights, tokenizer, module chain, maximum length and prompts have the same
fingerprint, wherever they lie and whichever generation wrote them. Runtime and precision are not
identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from semsearch.encoders.digests import file_digest
from semsearch.encoders.folder import ModelConfig, read_folder
from semsearch.encoders.resolve import resolve_model
from semsearch.errors import ModelError

_VERSION = 1
_NOT_IDENTITY = frozenset(
    {
        "_name_or_path",
        "architectures",
        "dtype",
        "gradient_checkpointing",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)
TOKENIZER_FILES = (
    "tokenizer.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)


def fingerprint_of(model: str | Path, local_only: bool = True) -> str:
    """SHA-256 (hexadecimal) of a model's identity; loads no runtime.

    Raises NotFound (no such model here) and ModelError (a folder that cannot be used).
    """
    return fingerprint(read_folder(resolve_model(model, local_only=local_only)))


def fingerprint(config: ModelConfig) -> str:
    """SHA-256 (hexadecimal) of a read folder's identity."""
    identity = {
        "version": _VERSION,
        "weights": [_digest(file) for file in config.weights],
        "tokenizer": tokenizer_digest(config),
        "architecture": _without(config.transformer),
        "modules": [[module.kind, _module(module.settings)] for module in config.modules[1:]],
        "max_length": config.max_length,
        "lower_case": config.lower_case,
        "truncate_dim": config.truncate_dim,
        "prompts": [config.query_prompt, config.document_prompt],
    }
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def tokenizer_digest(config: ModelConfig) -> list[str]:
    """The digest of ``tokenizer.json``, or of the older files that it would be made from."""
    files = [config.token_folder / name for name in TOKENIZER_FILES]
    present = [file for file in files if file.is_file()]
    if not present:
        raise ModelError(f"{config.token_folder}: no tokenizer (tokenizer.json is missing)")
    if present[0].name == "tokenizer.json":
        present = present[:1]
    return [f"{file.name}:{_digest(file)}" for file in present]


def _digest(file: Path) -> str:
    try:
        return file_digest(file)
    except OSError as exc:
        raise ModelError(f"{file}: cannot be read: {exc.strerror or exc}") from exc


def _without(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in _NOT_IDENTITY}


def _module(settings: Mapping[str, Any]) -> dict[str, Any]:
    default = {"module_input_name": "sentence_embedding", "use_residual": False}
    default["module_output_name"] = settings.get("module_input_name", "sentence_embedding")
    return {
        key: value
        for key, value in settings.items()
        if key != "__version__" and value is not None and value != default.get(key)
    }
