"""The ``tokenizer.json`` of a model: its own, or one made once from older files and cached."""

from __future__ import annotations

import hashlib
import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

from semsearch.encoders.fingerprint import tokenizer_digest
from semsearch.encoders.folder import ModelConfig
from semsearch.errors import ModelError, StorageError
from semsearch.fs import cache_folder, write_file

log = logging.getLogger("semsearch")
_CONVERTERS = {"sentencepiece": "sentencepiece", "protobuf": "google"}
"""What transformers needs to read a SentencePiece vocabulary, by the module that shows it."""


def tokenizer_json(config: ModelConfig) -> str:
    """The text of a ``tokenizer.json``. Raises ModelError if there is no usable tokenizer."""
    own = config.token_folder / "tokenizer.json"
    if own.is_file():
        return _read(own)
    settings = config.token_folder / "tokenizer_config.json"
    parts = [*tokenizer_digest(config), _read(settings) if settings.is_file() else ""]
    name = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    cached = cache_folder() / "tokenizers" / f"{name}.json"
    if cached.is_file():
        return _read(cached)
    text = _convert(config.token_folder)
    try:
        write_file(cached, text.encode())
    except StorageError as exc:
        log.warning("the converted tokenizer is not kept: %s", exc)
    return text


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ModelError(f"{path}: cannot be read: {exc}") from exc


def _convert(folder: Path) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        )
        return str(tokenizer.backend_tokenizer.to_str())
    except Exception as exc:  # many kinds, from transformers and what it builds on
        missing = [name for name, module in _CONVERTERS.items() if find_spec(module) is None]
        if missing:
            reason = f"it may need more packages: pip install {' '.join(missing)}"
        else:
            reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise ModelError(f"{folder}: its tokenizer cannot be converted: {reason}") from exc
