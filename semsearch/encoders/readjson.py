"""Reading a model folder's JSON files, each fault in one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from semsearch.errors import ModelError

_LARGEST = 64 * 2**20
"""Bytes. Configuration files are kilobytes; nothing larger is parsed."""


def read_json(path: Path) -> Any:
    """The parsed file. Raises ModelError if it is missing, unreadable or not JSON."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ModelError(f"{path}: far too large for a configuration file")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as exc:
        raise ModelError(f"{path}: missing; the model folder is incomplete") from exc
    except OSError as exc:
        raise ModelError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    except json.JSONDecodeError as exc:
        raise ModelError(f"{path}:{exc.lineno}: not JSON: {exc.msg}") from exc
    except (UnicodeDecodeError, RecursionError) as exc:
        raise ModelError(f"{path}: not JSON: {type(exc).__name__}") from exc
    except ValueError as exc:  # a NUL in the path, an integer of thousands of digits
        raise ModelError(f"{path}: cannot be read: {exc}") from exc


def read_object(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """The parsed file, which must hold a JSON object; ``{}`` if it is optional and missing."""
    if optional and not path.exists():
        return {}
    value = read_json(path)
    if not isinstance(value, dict):
        raise ModelError(f"{path}: holds {type(value).__name__} where an object is expected")
    return value
