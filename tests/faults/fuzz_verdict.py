"""What may come of hostile input: success, or one error of one line, and nothing else changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import click

from semsearch.errors import SemsearchError

ACCEPTED, REFUSED = "accepted", "refused"


class Wrong(AssertionError):
    """What must not come of any input."""


def attempt(action: Callable[[], object]) -> str:
    """Whether the action took its input; any other error than ours passes through."""
    try:
        action()
    except click.UsageError as exc:
        require_one_line(exc.format_message())
    except SemsearchError as exc:
        require_one_line(str(exc))
    else:
        return ACCEPTED
    return REFUSED


def require_one_line(message: str) -> None:
    """Raise Wrong unless this is one line that says something."""
    if not message.strip() or "\n" in message or "\r" in message:
        raise Wrong(f"not one line: {message!r}")
    if len(message) > 4_000:
        raise Wrong(f"a line of {len(message):,} characters: {message[:200]!r}")


def tree(folder: Path, *, leave_out: tuple[str, ...] = ("LOCK",)) -> dict[str, str]:
    """Every file below a folder with the hash of what it holds; links are not followed."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(root, name)
            place = str(path.relative_to(folder))
            if name in leave_out:
                continue
            if path.is_symlink():
                found[place] = f"link to {path.readlink()}"
            elif path.is_file():
                found[place] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[place] = "folder" if path.is_dir() else "other"
    return found


def require_same(before: dict[str, str], after: dict[str, str], what: str) -> None:
    """Raise Wrong, naming what changed."""
    if before == after:
        return
    names = sorted(name for name in before.keys() | after if before.get(name) != after.get(name))
    raise Wrong(f"{what} changed: {', '.join(names[:5])}")
