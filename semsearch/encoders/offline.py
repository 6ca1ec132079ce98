"""Never to use the network: one setting, heeded by us and by the libraries below."""

from __future__ import annotations

import os

OFFLINE = "SEMSEARCH_OFFLINE"
"""The environment variable that keeps every model on this machine; 0 and nothing do not."""

_LIBRARIES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


def is_offline() -> bool:
    """Whether nothing may be fetched."""
    return os.environ.get(OFFLINE, "").strip().lower() not in ("", "0", "false", "no", "off")


def go_offline() -> None:
    """Fetch nothing from now on. The libraries read their settings when they are imported."""
    os.environ[OFFLINE] = "1"
    for name in _LIBRARIES:
        os.environ[name] = "1"
