"""The ``tokenizer.json`` of a model: its own, or one made once from older files and cached."""

from __future__ import annotations

import hashlib
from pathlib import Path

from semsearch.encoders.fingerprint import tokenizer_digest
from semsearch.encoders.folder import ModelConfig
from semsearch.errors import ModelError
from semsearch.fs import cache_folder, write_file


def tokenizer_file(config: ModelConfig) -> Path:
    """The path of a ``tokenizer.json``. Raises ModelError if the folder has no usable tokenizer."""
    own = config.token_folder / "tokenizer.json"
    if own.is_file():
        return own
    settings = config.token_folder / "tokenizer_config.json"
    parts = [*tokenizer_digest(config), settings.read_text() if settings.is_file() else ""]
    name = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    cached = cache_folder() / "tokenizers" / f"{name}.json"
    if not cached.is_file():
        write_file(cached, _convert(config.token_folder).encode())
    return cached


def _convert(folder: Path) -> str:
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        )
        return str(tokenizer.backend_tokenizer.to_str())
    except Exception as exc:  # many kinds, from transformers and what it builds on
        reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise ModelError(f"{folder}: its tokenizer cannot be converted: {reason}") from exc
