"""A disk that loses power: what is left of a folder, given the calls that were made on it.

Strict POSIX. What was written to a file since it was last synced may be lost, wholly or in part, in
pieces of 512 bytes and in any order. Changes of a folder since it was last synced may be undone,
the last ones first or, as POSIX allows and no usual file system does, any of them; folders lose
theirs independently of each other, and a file's sync says nothing about its name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.faults.shim import Operation

SECTOR = 512
Image = dict[str, bytes | None]
"""Every path, with the bytes of a file or None for a folder."""
Change = tuple[int, bytes | None]
"""Bytes at an offset; None cuts, or extends, the file to that size."""


@dataclass(eq=False)
class File:
    """``synced`` is on the disk; ``changes`` came since, in this order."""

    synced: bytes = b""
    live: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list)

    def change(self, offset: int, data: bytes | None) -> None:
        self.changes.append((offset, data))
        _apply(self.live, offset, data)

    def sync(self) -> None:
        self.synced, self.changes = bytes(self.live), []


@dataclass(eq=False)
class Folder:
    """The names in it: as they are on the disk, as they are now, and the changes since."""

    synced: dict[str, Node] = field(default_factory=dict)
    live: dict[str, Node] = field(default_factory=dict)
    changes: list[tuple[str | None, str | None, Node]] = field(default_factory=list)

    def change(self, gone: str | None, new: str | None, node: Node) -> None:
        """A name goes, a name comes, or both in one rename."""
        self.changes.append((gone, new, node))
        _rename(self.live, gone, new, node)

    def sync(self) -> None:
        self.synced, self.changes = dict(self.live), []


Node = File | Folder


def _rename(names: dict[str, Node], gone: str | None, new: str | None, node: Node) -> None:
    if gone is not None:
        names.pop(gone, None)
    if new is not None:
        names[new] = node


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    end = offset if data is None else offset + len(data)
    if data is None and len(content) > end:
        del content[end:]
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if data is not None:
        content[offset:end] = data


class Disk:
    """The root and all below it. ``unseen`` names places where a change may be missing here."""

    def __init__(self, unseen: str = r"(?!)") -> None:
        self.root = Folder()
        self._nodes: dict[int, Node] = {}
        self._unseen = re.compile(unseen)
        self.strange: list[str] = []

    def do(self, op: Operation) -> None:
        """One operation of a trace."""
        if op.name not in ("mark", "fault"):
            getattr(self, f"_{op.name}")(op)

    def _place(self, path: str) -> tuple[Folder, str]:
        *above, name = path.split("/")
        folder = self.root
        for part in above:
            inner = folder.live[part]
            assert isinstance(inner, Folder)
            folder = inner
        return folder, name

    def _file(self, op: Operation) -> File:
        node = self._nodes[op.inode]
        assert isinstance(node, File)
        return node

    def _mkdir(self, op: Operation) -> None:
        if not op.path:
            self._nodes[op.inode] = self.root
            return
        self._add(op, Folder())

    def _create(self, op: Operation) -> None:
        self._add(op, File())

    def _add(self, op: Operation, node: Node) -> None:
        self._nodes[op.inode] = node
        folder, name = self._place(op.path)
        folder.change(None, name, node)

    def _write(self, op: Operation) -> None:
        self._file(op).change(op.offset, op.data)

    def _truncate(self, op: Operation) -> None:
        self._file(op).change(op.offset, None)

    def _sync(self, op: Operation) -> None:
        self._nodes[op.inode].sync()

    def _unlink(self, op: Operation) -> None:
        folder, name = self._place(op.path)
        if name in folder.live:
            folder.change(name, None, folder.live[name])
        elif not self._unseen.match(op.path):
            self.strange.append(f"{op.path} is removed, and was never made")

    _rmdir = _unlink

    def _link(self, op: Operation) -> None:
        folder, name = self._place(op.second)
        folder.change(None, name, self._nodes[op.inode])

    def _rename(self, op: Operation) -> None:
        (before, old), (after, new) = self._place(op.path), self._place(op.second)
        node = before.live[old]
        if before is after:
            before.change(old, new, node)
        else:
            after.change(None, new, node)
            before.change(old, None, node)

    def _unknown(self, op: Operation) -> None:
        self.strange.append(f"{op.path}: {op.second}: not understood")

    def live(self) -> Image:
        """What a process sees that runs on."""
        return dict(_walk(self.root, lambda f: bytes(f.live), lambda f: f.live))

    def crashed(self, lose: Lost) -> Image:
        """What is left when the power goes now."""
        return dict(_walk(self.root, lose.content, lose.names))


def _walk(
    folder: Folder,
    content: Callable[[File], bytes],
    names: Callable[[Folder], dict[str, Node]],
    above: str = "",
) -> Iterator[tuple[str, bytes | None]]:
    for name, node in names(folder).items():
        path = above + name
        if isinstance(node, Folder):
            yield path, None
            yield from _walk(node, content, names, path + "/")
        else:
            yield path, content(node)


class Lost:
    """How much of what was not synced is lost: ``everything``, ``nothing``, or what chance says.

    By ``chance`` a folder loses its last changes, in ``any order`` any of them. What becomes of a
    file is decided once, whatever the number of its names.
    """

    def __init__(self, random: np.random.Generator, how: str) -> None:
        self._random = random
        self._how = how
        self._decided: dict[int, bytes] = {}

    def names(self, folder: Folder) -> dict[str, Node]:
        """What a folder's changes leave."""
        found, count = dict(folder.synced), len(folder.changes)
        if self._how == "any order":
            kept = np.flatnonzero(self._random.random(count) < 0.5).tolist()
        else:
            most = {"everything": 0, "nothing": count}.get(self._how)
            kept = list(range(int(self._random.integers(count + 1)) if most is None else most))
        for gone, new, node in (folder.changes[number] for number in kept):
            _rename(found, gone, new, node)
        return found

    def content(self, file: File) -> bytes:
        if id(file) not in self._decided:
            self._decided[id(file)] = self._content(file)
        return self._decided[id(file)]

    def _content(self, file: File) -> bytes:
        if not file.changes or self._how == "everything":
            return file.synced
        if self._how == "nothing":
            return bytes(file.live)
        kind = str(self._random.choice(["lost", "kept", "cut", "some", "zeros"]))
        content = bytearray(file.synced)
        if kind == "kept":
            return bytes(file.live)
        if kind == "cut":
            self._cut(content, file.changes)
        elif kind == "some":
            self._some(content, file.changes)
        elif kind == "zeros" and len(file.live) > len(content):
            content.extend(bytes(len(file.live) - len(content)))
        return bytes(content)

    def _cut(self, content: bytearray, changes: list[Change]) -> None:
        """The first changes are there, of the next one the first sectors."""
        kept = int(self._random.integers(len(changes)))
        for offset, data in changes[:kept]:
            _apply(content, offset, data)
        offset, data = changes[kept]
        if data:
            sectors = int(self._random.integers(-(-len(data) // SECTOR)))
            _apply(content, offset, data[: sectors * SECTOR])

    def _some(self, content: bytearray, changes: list[Change]) -> None:
        """Any sectors of any changes are there; what is missing below them reads as zeros."""
        for offset, data in changes:
            if data is None:
                if self._random.random() < 0.5:
                    _apply(content, offset, None)
                continue
            for at in _sectors(offset, len(data)):
                if self._random.random() < 0.5:
                    end = min(at + SECTOR - (offset + at) % SECTOR, len(data))
                    _apply(content, offset + at, data[at:end])


def _sectors(offset: int, length: int) -> Iterator[int]:
    """Where the sectors of a change begin, counted from its own start."""
    at = 0
    while at < length:
        yield at
        at += SECTOR - (offset + at) % SECTOR


def write_image(image: Image, folder: Path) -> None:
    """Make a folder that holds it."""
    folder.mkdir(parents=True)
    for path, content in image.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


def image_of(folder: Path) -> Image:
    """What a folder holds."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def digest(image: Image) -> str:
    """Equal for equal states; temporary names count as one."""
    whole = hashlib.sha256()
    for path in sorted(image):
        whole.update(re.sub(r"\.tmp-[^/]*", ".tmp", path).encode() + b"\0")
        whole.update(image[path] or b"")
    return whole.hexdigest()
