"""UTF-8 text from a file, a gzip file or standard input, line by line, in constant memory."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias, cast

from semsearch.errors import InputError

MAX_LINE = 32 * 1024 * 1024
"""Longest line, in bytes, that is read into memory."""

STDIN = "-"

Reject: TypeAlias = Callable[[InputError], None]
"""What a reader does with a bad record: raise the error, or note it and return to go on."""

_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def stop(error: InputError) -> None:
    """Raise ``error``: the Reject of readers that stop at the first bad record."""
    raise error


class Line(NamedTuple):
    """One line without its end.

    ``error`` says why it cannot be used; ``text`` is then a stand-in with the same quotes and
    separators, or empty when the line is too long.
    """

    number: int
    text: str
    error: InputError | None


def name_of(path: str | Path) -> str:
    """The name of an input in messages: the path as given, or ``stdin``."""
    return "stdin" if str(path) == STDIN else str(path)


@contextmanager
def open_input(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file, or standard input for ``-``, as bytes; gzip is recognised by its content.

    Raises InputError when the file is missing, is a folder or cannot be read.
    """
    if str(path) == STDIN:
        source = cast(BinaryIO, getattr(sys.stdin, "buffer", None) or io.BytesIO())
        stream = source if isinstance(source, io.BufferedReader) else io.BufferedReader(source)  # type: ignore[type-var]
        try:
            yield _unpacked(stream, "stdin")
        finally:
            if stream is not source:
                stream.detach()  # closing the wrapper would close standard input
        return
    if Path(path).is_dir():
        raise InputError("this is a folder, and a file is expected here", path)
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError as exc:
        raise InputError("no such file", path) from exc
    except (OSError, ValueError) as exc:
        raise InputError(f"cannot open: {_reason(exc)}", path) from exc
    with file:
        yield _unpacked(file, str(path))


def read_lines(path: str | Path, *, max_line: int = MAX_LINE) -> Iterator[Line]:
    """Every line of a UTF-8 text, numbered from 1, blank ones included; ends are removed.

    A line that is too long, is not UTF-8 or holds a NUL byte comes with ``error`` set, and reading
    goes on behind it. Raises InputError when nothing more can be read: a missing file, a folder,
    UTF-16, a truncated gzip file.
    """
    name = name_of(path)
    with open_input(path) as stream:
        number = 1
        room = len(_UTF8_MARK) + len(b"\r\n")  # so that a cut line is always over the limit
        while raw := _readline(stream, max_line + room, name, number):
            if number == 1:
                if raw.startswith(_UTF16_MARKS):
                    raise InputError(_convert("this is UTF-16", "UTF-16", name), name, 1)
                raw = raw.removeprefix(_UTF8_MARK)
            text = raw.removesuffix(b"\n").removesuffix(b"\r")
            if len(text) > max_line:
                while raw and not raw.endswith(b"\n"):
                    raw = _readline(stream, 1 << 16, name, number)
                yield Line(number, "", _too_long(max_line, name, number))
            else:
                yield _decoded(text, name, number)
            number += 1


def good_lines(
    path: str | Path, reject: Reject = stop, *, max_line: int = MAX_LINE
) -> Iterator[tuple[int, str]]:
    """Number and text of every line that is not blank; bad ones go to ``reject``."""
    for number, text, error in read_lines(path, max_line=max_line):
        if error is not None:
            reject(error)
        elif text and not text.isspace():
            yield number, text


def read_text(path: str | Path, *, limit: int = MAX_LINE) -> str:
    """Read a whole text file, line ends as single newlines.

    Raises InputError as `read_lines` does, for any bad line, and when the file is longer than
    ``limit`` characters.
    """
    lines = []
    size = 0
    for line in read_lines(path, max_line=limit):
        if line.error is not None:
            raise line.error
        size += len(line.text) + 1
        if size > limit + 1:
            message = f"longer than {_size(limit)}: split it into smaller files"
            raise InputError(message, name_of(path))
        lines.append(line.text)
    return "\n".join(lines)


def first_bytes(path: str | Path, count: int = 4096) -> bytes:
    """The first bytes of a text without its byte order mark. Raises InputError."""
    with open_input(path) as stream:
        try:
            return stream.read(count).removeprefix(_UTF8_MARK)
        except (EOFError, zlib.error, OSError) as exc:
            raise _unreadable(exc, name_of(path), 0) from exc


def _unpacked(stream: BinaryIO, name: str) -> BinaryIO:
    try:
        start = cast(io.BufferedReader, stream).peek(2)
    except OSError as exc:
        raise _unreadable(exc, name, 0) from exc
    if start.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=stream), 1 << 17))
    return stream


def _readline(stream: BinaryIO, size: int, name: str, number: int) -> bytes:
    try:
        return stream.readline(size)
    except (EOFError, zlib.error, OSError) as exc:
        raise _unreadable(exc, name, number) from exc


def _unreadable(exc: Exception, name: str, number: int) -> InputError:
    if isinstance(exc, OSError) and not isinstance(exc, gzip.BadGzipFile):
        return InputError(f"cannot read: {_reason(exc)}", name, number)
    message = "the gzip data is truncated or damaged: test it with gzip -t, or fetch it again"
    return InputError(message, name, number)


def _decoded(raw: bytes, name: str, number: int) -> Line:
    error = None
    try:
        text = raw.decode()
    except UnicodeDecodeError as exc:
        text = raw.decode(errors="replace")
        what = f"not UTF-8 (byte 0x{raw[exc.start]:02x} at byte {exc.start + 1} of the line)"
        error = InputError(_convert(what, "WINDOWS-1252", name), name, number)
    if "\0" in text:
        error = error or InputError(
            "the line holds a NUL byte: this is not a UTF-8 text file", name, number
        )
    return Line(number, text, error)


def _convert(what: str, encoding: str, name: str) -> str:
    return f"{what}: convert it first, for example: iconv -f {encoding} -t UTF-8 {name} > utf8.txt"


def _too_long(limit: int, name: str, number: int) -> InputError:
    return InputError(
        f"the line is longer than {_size(limit)}: split the document into smaller ones",
        name,
        number,
    )


def _size(count: int) -> str:
    return f"{count // 2**20} MB" if count >= 2**20 else f"{count} bytes"


def _reason(exc: Exception) -> str:
    return getattr(exc, "strerror", None) or str(exc)
