"""Folders and globs of text and Markdown files, one document a file."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath

from semsearch.corpus.fields import document_id, mend
from semsearch.corpus.text import Reject, read_text, stop
from semsearch.errors import InputError
from semsearch.types import Document

TEXT_SUFFIXES = (".txt", ".md", ".markdown")

_HEADING = re.compile(r" {0,3}#{1,6}([ \t].*)?")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*")


def read_folder(folder: str | Path, reject: Reject = stop) -> Iterator[Document]:
    """Every .txt and .md file below ``folder``, in the order of their paths.

    A document's id is its path below the folder, with slashes; its source is the folder as given.
    Hidden files and folders are passed over, links to folders are not followed, and links to files
    only when they stay inside the folder. Files that cannot be read go to ``reject``.
    """
    for path in text_files(folder, reject):
        yield from read_text_file(
            path, PurePath(path).relative_to(folder).as_posix(), str(folder), reject
        )


def text_files(folder: str | Path, reject: Reject = stop) -> Iterator[Path]:
    """The files that `read_folder` reads, sorted by the parts of their paths."""
    yield from _walk(Path(folder), Path(folder).resolve(), reject)


def read_text_file(
    path: str | Path, doc_id: str, source: str, reject: Reject = stop
) -> Iterator[Document]:
    """The one document of a text or Markdown file, or none when it goes to ``reject``.

    A Markdown file's title is its first heading, which leaves the text when nothing but front
    matter stands before it.
    """
    try:
        identity = document_id(doc_id, str(path), 0)
        text = mend(read_text(path))
    except InputError as error:
        reject(error)
        return
    title = ""
    if PurePath(path).suffix.lower() != ".txt":
        title, text = split_title(text)
    yield Document(id=identity, text=text.strip(), title=title, source=source)


def split_title(text: str) -> tuple[str, str]:
    """The first heading of a Markdown text, or "", and the text without it if it came first."""
    lines = text.split("\n")
    start = _front_matter(lines)
    fence = ""
    for number in range(start, len(lines)):
        line = lines[number]
        if mark := _FENCE.match(line):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence):
                fence = ""
            continue
        heading, length = ("", 0) if fence else _heading(lines, number)
        if heading:
            if any(part.strip() for part in lines[start:number]):
                return heading, text
            return heading, "\n".join(lines[:number] + lines[number + length :])
    return "", text


def glob_files(pattern: str) -> list[str]:
    """The files that match ``pattern`` (``**`` for any depth), sorted by the parts of their paths.

    Hidden files are passed over, and so is what links to folders lead to outside the folder that
    the pattern begins with; links out to text files too, while data files are often kept as links.
    A file that is reached twice is listed once. Raises InputError when nothing matches.
    """
    fixed = []
    for part in PurePath(pattern).parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    root = Path(*fixed).resolve()
    found: dict[str, str] = {}
    for path in sorted(glob.iglob(pattern, recursive=True), key=lambda path: PurePath(path).parts):
        real = os.path.realpath(path)
        is_text = PurePath(path).suffix.lower() in TEXT_SUFFIXES
        place = real if is_text else os.path.realpath(os.path.dirname(path))
        if os.path.isfile(real) and Path(place).is_relative_to(root):
            found.setdefault(real, path)
    if not found:
        raise InputError("no file matches this pattern", pattern)
    return list(found.values())


def _walk(folder: Path, root: Path, reject: Reject) -> Iterator[Path]:
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as exc:
        reject(InputError(f"cannot read the folder: {exc.strerror}", folder))
        return
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path, root, reject)
        elif path.suffix.lower() not in TEXT_SUFFIXES or not entry.is_file():
            continue
        elif not entry.is_symlink() or path.resolve().is_relative_to(root):
            yield path


def _front_matter(lines: list[str]) -> int:
    if lines[0].rstrip() == "---":
        for number, line in enumerate(lines[1:], 1):
            if line.rstrip() in ("---", "..."):
                return number + 1
    return 0


def _heading(lines: list[str], number: int) -> tuple[str, int]:
    line = lines[number]
    if found := _HEADING.fullmatch(line):
        text = (found[1] or "").strip(" \t")
        closed = text.rstrip("#")
        return (text if closed and closed[-1] not in " \t" else closed).strip(), 1
    below = lines[number + 1] if number + 1 < len(lines) else ""
    above = lines[number - 1].strip() if number else ""
    plain = line.strip() and not line.startswith("    ") and line.lstrip()[0] not in "-*+>|=#"
    if plain and not above and _UNDERLINE.fullmatch(below):
        return line.strip(), 2
    return "", 0
