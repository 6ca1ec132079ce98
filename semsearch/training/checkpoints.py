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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from semsearch import fs
from semsearch.encoders.digests import file_digest
from semsearch.errors import Locked, StorageError, UsageError

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_STATE = "trainer_state.json"
_NEEDED = (_STATE, "optimizer.pt", "scheduler.pt", "modules.json")
_WEIGHTS = ("*.safetensors", "*/*.safetensors")
_IDENTITY = "identity.json"
_LOCK = "LOCK"
_NOT_SAVED = ("PytorchStreamWriter", "inline_container", "iostream")
_ERRNO = re.compile(r"\(os error (\d+)\)")
_MADE_OF = (".safetensors", ".json", ".txt", ".model")
FACTS = "training.json"
"""The file in a trained model's folder that says how it came about."""


class Work:
    """The folder of a run that is not done: its identity, checkpoints, what was measured before.

    Raises UsageError where there can be none.
    """

    def __init__(self, output: Path, identity: str) -> None:
        if not output.name:
            raise UsageError(f"{output} is no name for a new folder: choose another --output")
        self.output = output
        self.folder = output.with_name(f"{output.name}.work")
        self.identity = identity

    @contextmanager
    def open(self, *, fresh: bool) -> Iterator[None]:
        """Hold the folder: made, or found as the same run left it; ``fresh`` throws that away.

        What another run left before its first checkpoint is thrown away too. Of several processes
        only the first does so. Raises UsageError when the folder belongs to another recipe or to
        somebody else, Locked while another run holds it, StorageError.
        """
        if not _is_first():
            yield
            return
        if self._read(_IDENTITY) is None and self._holds_files():
            raise UsageError(
                f"{self.folder}: exists and was not made by training: choose another --output"
            )
        with ExitStack() as held:
            try:
                held.enter_context(fs.exclusive_lock(self.folder / _LOCK))
            except Locked as exc:
                raise Locked(
                    f"{self.folder}: another process trains there: wait for it to finish, or"
                    " choose another --output"
                ) from exc
            noted = self._read(_IDENTITY)
            other = noted is not None and noted.get("identity") != self.identity
            if other and not fresh and self.checkpoint() is not None:
                raise UsageError(
                    f"{self.folder}: holds the unfinished run of another recipe, other rows or"
                    " another base: choose another --output, or --fresh to throw it away"
                )
            if other or fresh:
                self._empty()
            if other or fresh or noted is None:
                self.keep(_IDENTITY, {"identity": self.identity})
            yield

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
        """Give the finished model's folder its name, then drop the work. Raises StorageError.

        A model that is replaced leaves whole, so that no half of one is ever found in its place.
        """
        mode = (made / FACTS).stat().st_mode
        for path in sorted(made.rglob("*")):
            if path.is_file():
                path.chmod(mode)  # the library writes weights that only their owner may read
                fs.sync_file(path)
        replaced = self.folder / "replaced"
        shutil.rmtree(replaced, ignore_errors=True)
        with fs.storage_errors(self.output):
            if self.output.exists():
                self.output.rename(replaced)
            made.rename(self.output)
        fs.sync_folder(self.output.parent)
        self._remove()

    def _holds_files(self) -> bool:
        """Whether there is anything but what a process that was stopped at once leaves."""
        if not self.folder.is_dir():
            return self.folder.exists()
        names = (path.name for path in self.folder.iterdir())
        return any(name != _LOCK and not name.startswith(".tmp-") for name in names)

    def _empty(self) -> None:
        """Remove all but what says whose the folder is: so it can be gone on with at any time."""
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in (_IDENTITY, _LOCK):
                path.unlink(missing_ok=True)

    def _remove(self) -> None:
        if self.folder.is_dir():
            self._empty()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None


@contextmanager
def saving_errors(folder: Path) -> Iterator[None]:
    """Turn what the libraries raise when they cannot write a file into StorageError."""
    from safetensors import SafetensorError

    with fs.storage_errors(folder):
        try:
            yield
        except SafetensorError as exc:
            if (number := _ERRNO.search(str(exc))) is None:
                raise
            raise OSError(int(number[1]), str(exc)) from exc
        except RuntimeError as exc:  # torch.save, which does not say why
            if not any(sign in str(exc) for sign in _NOT_SAVED):
                raise
            raise StorageError(
                f"{folder}: cannot write: the disk is full or failing: free some space, run again"
            ) from exc


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
    """SHA-256 (hexadecimal) of a run: its recipe, the digests of its rows, the base's files."""
    parts = [recipe_digest, *rows]
    if base is not None:  # weights, tokenizer, modules and their settings
        files = sorted(path for path in base.rglob("*") if path.suffix in _MADE_OF)
        parts += [f"{file.relative_to(base)}:{file_digest(file)}" for file in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def trained_facts(output: Path) -> dict[str, Any] | None:
    """What a finished run noted in a model's folder, or None."""
    try:
        found = json.loads((output / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
