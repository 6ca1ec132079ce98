"""Every error that semsearch raises on purpose.

    SemsearchError
    ├── InputError         a corpus, query, qrels or run file (or one record of it) cannot be used
    ├── UsageError         an argument makes no sense here (the command line exits with 2)
    ├── NotFound           an index, document, model or dataset is not there
    ├── ModelError         a model folder cannot be used
    ├── Mismatch           the index was made by another model, or by another version
    ├── Corrupt            a file of the index is damaged
    ├── Locked             another process is writing to the index
    ├── StorageError       the disk is full, read-only or failing
    ├── OutOfMemory        training has no room for a batch on its device
    └── MissingExtra       an optional package is not installed (also an ImportError)

Each message is one line that says what happened, where, and what to do.
"""

from __future__ import annotations

from pathlib import Path

_LONGEST = 2_000
"""Characters of a message: what it quotes may be of any length."""


class SemsearchError(Exception):
    """Root of the tree: catch this to catch them all."""

    def __init__(self, message: str = "") -> None:
        message = " ".join(message.splitlines())  # file names and libraries may break lines
        if len(message) > _LONGEST:
            message = f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 2 :]}"
        super().__init__(message)


class InputError(SemsearchError):
    """Bad input; the message starts with ``file:line:`` where those are known."""

    def __init__(self, message: str, file: str | Path | None = None, line: int = 0) -> None:
        place = "" if file is None else f"{file}:{line}: " if line else f"{file}: "
        super().__init__(place + message)
        self.file = file
        self.line = line


class UsageError(SemsearchError):
    """An argument or a combination of arguments that makes no sense."""


class NotFound(SemsearchError):
    """Something that was named does not exist."""


class ModelError(SemsearchError):
    """A model folder that cannot be loaded, or that must not be."""


class Mismatch(SemsearchError):
    """The index belongs to another model, or to another version of semsearch."""


SEE_CHECK = "run `semsearch check`, which tells what is left and how to repair it"
"""What to do about a damaged index: the end of most messages of ``Corrupt``."""


def what_is_damaged(message: str) -> str:
    """A message of ``Corrupt`` without ``SEE_CHECK``: for whoever is checking already."""
    return message.removesuffix(f": {SEE_CHECK}")


class Corrupt(SemsearchError):
    """A damaged file; the message names it and the command that repairs it."""


class Locked(SemsearchError):
    """Another process holds the writer's lock."""


class StorageError(SemsearchError):
    """The operating system refused a write: disk full, read-only folder, failing disk."""


class OutOfMemory(SemsearchError):
    """No room in memory, or on a device for a batch; the message names what to change."""


class MissingExtra(SemsearchError, ImportError):
    """An optional package is missing; the message holds the ``pip install`` line."""

    def __init__(self, package: str, extra: str | None, purpose: str) -> None:
        what = package if extra is None else f"'semsearch[{extra}]'"
        super().__init__(f"{purpose} needs {package}: pip install {what}")
        self.package = package
        self.extra = extra
