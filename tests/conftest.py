"""What every test runs in: no network, a scrubbed environment, one cache folder for the session."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

SCRUBBED = (
    "SEMSEARCH_",
    "HF_",
    "HUGGINGFACE_",
    "TRANSFORMERS_",
    "SENTENCE_TRANSFORMERS_",
    "XDG_",
    "CLICOLOR",
    "FORCE_COLOR",
    "COLUMNS",
    "PYTHONWARNINGS",
)

settings.register_profile("semsearch", deadline=None, derandomize=True, database=None)
settings.load_profile("semsearch")


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(self: socket.socket, *arguments: Any) -> Any:
        if self.family != socket.AF_UNIX:
            # Not an Exception: the code under test cannot swallow it.
            pytest.fail(f"a test tried to reach the network: {method.__name__}{arguments[-1:]}")
        return method(self, *arguments)

    return guarded


def _refuse_lookup(host: Any, *_arguments: Any, **_options: Any) -> Any:
    pytest.fail(f"a test tried to look up a host: {host!r}")


def _block_network() -> None:
    for name in ("connect", "connect_ex", "sendto"):
        setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        setattr(socket, name, _refuse_lookup)


def pytest_configure(config: pytest.Config) -> None:
    """Set the environment before anything that reads it on import is imported."""
    for name in [name for name in os.environ if name.startswith(SCRUBBED)]:
        del os.environ[name]
    cache = tempfile.mkdtemp(prefix="semsearch-tests-")
    config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))
    # One folder for the whole session, so that a model is converted once.
    os.environ["SEMSEARCH_CACHE"] = os.path.join(cache, "semsearch")
    os.environ["HF_HOME"] = os.path.join(cache, "huggingface")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["NO_COLOR"] = "1"
    os.environ["SEMSEARCH_MIN_FREE"] = "0"  # some tests' file systems are smaller than the floor
    _block_network()
