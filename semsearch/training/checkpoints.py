"""Where a run keeps its work, and how it goes on after it was stopped.

Everything lies in a folder beside the output until the model is done; the model's folder then
appears whole. A run goes on only from checkpoints of the same recipe, rows and base.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semsearch import fs
from semsearch.encoders.digests import file_digest
from semsearch.errors import UsageError

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_STATE = "trainer_state.json"
_NEEDED = (_STATE, "optimizer.pt", "scheduler.pt", "modules.json")
_WEIGHTS = ("*.safetensors", "*/*.safetensors")
_IDENTITY = "identity.json"
FACTS = "training.json"
"""The file in a trained model's folder that says how it came about."""


class Work:
    """The folder of a run that is not done: its identity, checkpoints, what was measured before."""

    def __init__(self, output: Path, identity: str) -> None:
        self.output = output
        self.folder = output.with_name(f"{output.name}.work")
        self.identity = identity

    def open(self, *, fresh: bool) -> None:
        """Make the folder, or find it as the same run left it; ``fresh`` throws that away.

        Of several processes only the first does so. Raises UsageError when it belongs to another
        recipe or to somebody else, StorageError.
        """
        if not _is_first():
            return
        noted = self._read(_IDENTITY)
        if noted is None and self._holds_files():
            raise UsageError(
                f"{self.folder}: exists and was not made by training: choose another --output"
            )
        if fresh:
            self._remove()
            noted = None
        if noted is not None and noted.get("identity") != self.identity:
            raise UsageError(
                f"{self.folder}: holds the unfinished run of another recipe, other rows or another"
                " base: choose another --output, or --fresh to throw it away"
            )
        fs.make_folder(self.folder)
        if noted is None:
            self.keep(_IDENTITY, {"identity": self.identity})

    def drop(self) -> None:
        """Remove the folder if it is this run's."""
        noted = self._read(_IDENTITY)
        if _is_first() and noted is not None and noted.get("identity") == self.identity:
            self._remove()

    def keep(self, name: str, value: Any) -> None:
        """Store a JSON value in the folder, whole or not at all. Raises StorageError."""
        with fs.NewFile(self.folder) as new:
            new.write(json.dumps(value).encode())
            new.publish(name)

    def kept(self, name: str) -> Any:
        """A value stored before, or None."""
        return self._read(name)

    def checkpoint(self) -> Path | None:
        """The newest whole checkpoint, if there is any; others were being written."""
        if not self.folder.is_dir():
            return None
        found = [(int(m[1]), path) for path in self.folder.iterdir() if (m := _number(path))]
        return next((path for _, path in sorted(found, reverse=True) if _is_whole(path)), None)

    def publish(self, made: Path) -> None:
        """Give the finished model's folder its name, then drop the work. Raises StorageError."""
        for path in sorted(made.rglob("*")):
            if path.is_file():
                fs.sync_file(path)
        with fs.storage_errors(self.output):
            if self.output.exists():
                shutil.rmtree(self.output)
            made.rename(self.output)
        fs.sync_folder(self.output.parent)
        self._remove()

    def _holds_files(self) -> bool:
        """Whether there is anything but what a process that was stopped at once leaves."""
        if not self.folder.is_dir():
            return self.folder.exists()
        return any(not path.name.startswith(".tmp-") for path in self.folder.iterdir())

    def _remove(self) -> None:
        """Remove the folder, last what says whose it is: so it can be gone on with at any time."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _IDENTITY:
                path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None


def sync_checkpoint(folder: Path) -> None:
    """Make a checkpoint survive a power loss. Raises StorageError."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            fs.sync_file(path)
    fs.sync_folder(folder)


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _number(path: Path) -> re.Match[str] | None:
    return _CHECKPOINT.fullmatch(path.name)


def _is_whole(folder: Path) -> bool:
    """Whether everything was written: the trainer writes its state last."""
    try:
        json.loads((folder / _STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    there = all((folder / name).is_file() for name in _NEEDED)
    return there and any(next(folder.glob(pattern), None) for pattern in _WEIGHTS)


def identity_of(recipe_digest: str, rows: Sequence[str], base: Path | None) -> str:
    """SHA-256 (hexadecimal) of a run: its recipe, the digests of its rows, the base's weights."""
    parts = [recipe_digest, *rows]
    if base is not None:
        files = sorted(path for pattern in _WEIGHTS for path in base.glob(pattern))
        parts += [file_digest(file) for file in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def trained_facts(output: Path) -> dict[str, Any] | None:
    """What a finished run noted in a model's folder, or None."""
    try:
        found = json.loads((output / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
