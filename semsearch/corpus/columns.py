"""What qrels and runs share: lines of columns, ids that fit into one, files written whole."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from semsearch.corpus.fields import mend
from semsearch.errors import InputError
from semsearch.fs import NewFile, storage_errors

_SPACE = re.compile(r"[ \t\r\v\f]+")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_BLOCK = 1 << 20


def split_columns(text: str) -> list[str]:
    """The columns of a line, separated by ASCII white space as in trec_eval."""
    if text.isascii():
        return text.split()
    return [part for part in _SPACE.split(text) if part]


def integer(text: str) -> int | None:
    """The whole number that ``text`` spells in ASCII digits, or None."""
    return int(text) if _INTEGER.fullmatch(text) else None


def check_id(value: str, file: str | Path) -> str:
    """Return ``value`` if it can be one column of a file. Raises InputError."""
    if not value or any(map(str.isspace, value)):
        message = f"the id {value!r} is empty or holds white space, which this format cannot hold"
        raise InputError(f"{message}: rename the document or query", file)
    return _check_characters(value, file)


def check_cell(value: str, file: str | Path) -> str:
    """Return ``value`` if it can be one cell of a table with tabs: white space within may be.

    Raises InputError.
    """
    if value.splitlines() != [value] or "\t" in value or value != value.strip():
        message = f"the id {value!r} is empty or holds a tab, a line break or white space at an end"
        raise InputError(f"{message}: rename the document or query", file)
    return _check_characters(value, file)


def _check_characters(value: str, file: str | Path) -> str:
    if value.startswith("\ufeff") or mend(value) != value:
        raise InputError(f"the id {value!a} holds characters that no UTF-8 text file can", file)
    return value


def write_lines(path: str | Path, lines: Iterable[str]) -> None:
    """Write a UTF-8 text that appears whole or not at all; gzip when named ``.gz``.

    A device or a pipe (``/dev/stdout``) is written to directly. Raises StorageError, and InputError
    when ``path`` is a folder; an error in ``lines`` leaves an earlier file as it was.
    """
    target = Path(path)
    check_target(target)
    blocks = _blocks(lines)
    if target.name.endswith(".gz"):
        blocks = _gzipped(blocks)
    if target.exists() and not target.is_file():
        with storage_errors(target), target.open("wb") as file:
            file.writelines(blocks)
        return
    target = target.resolve()  # a link keeps pointing to the file that is replaced
    with NewFile(target.parent) as new:
        for block in blocks:
            new.write(block)
        new.publish(target.name)


def check_target(path: Path) -> None:
    """Raise InputError where no file can be written: said before what takes long, too."""
    if path.is_dir():
        raise InputError("this is a folder, and a file is expected here", path)
    if not path.parent.exists():
        raise InputError("there is no such folder to write into", path)


def _blocks(lines: Iterable[str]) -> Iterator[bytes]:
    block: list[str] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line)
        if size >= _BLOCK:
            yield "".join(block).encode()
            block, size = [], 0
    yield "".join(block).encode()


def _gzipped(blocks: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=31)  # a gzip header without a time: same input, same bytes
    for block in blocks:
        yield packer.compress(block)
    yield packer.flush()
