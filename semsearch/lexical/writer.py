"""Writing the lexical folder: derived files, immutable, and committed by somebody else's record.

tantivy works in a private folder of links beside the files, so it neither deletes what an older
state refers to nor leaves anything behind that matters: a state handed out by ``commit`` names
files that are on disk, and opening with that state goes back to it whatever happened since.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semsearch import fs
from semsearch.errors import Corrupt, Mismatch, StorageError, UsageError
from semsearch.lexical import engine, files
from semsearch.lexical.languages import ENGLISH
from semsearch.lexical.state import LexicalState, segments_of
from semsearch.lexical.tokens import words

if TYPE_CHECKING:
    from tantivy import Index, IndexWriter

    from semsearch.types import Ints

log = logging.getLogger("semsearch")

HEAP_BYTES = 64 << 20
_LEAST_HEAP_BYTES = 15 << 20
_CLOSED = "{}: the lexical writer is closed: open it again"
_OS_ERROR = re.compile(r"(?:os error |code: )(\d+)")
_MOST_PENDING = 64 << 20
"""Characters; tantivy counts waiting passages, not their size, so very long ones are held back."""


class LexicalWriter:
    """Adds passages to a lexical folder. Only the holder of the index's lock may have one.

    ``state`` is the last one recorded. The writer stands on it if its files are whole, of this
    version and in this ``language``, else it starts afresh, and says in the log what is wrong: ask
    ``covered`` what is to be added.
    Whatever else the folder holds does not count. ``heap_bytes`` bounds tantivy's memory.
    Raises MissingExtra without tantivy, StorageError if the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        state: LexicalState | None = None,
        *,
        language: str = ENGLISH,
        heap_bytes: int = HEAP_BYTES,
        threads: int = 1,
    ) -> None:
        if heap_bytes < _LEAST_HEAP_BYTES * threads or threads < 1:
            raise UsageError(f"each thread of the lexical writer needs {_LEAST_HEAP_BYTES} bytes")
        self._folder = folder
        self._work = folder / files.WORK
        self._heap_bytes = heap_bytes
        self._threads = threads
        self._language = language
        self._writer: IndexWriter | None = None
        self._pending = 0
        self._broken = False
        engine.load()
        fs.make_folder(folder)
        self.state = self._usable(state)
        self._first, self._last, self._passages = -1, -1, 0
        if self.state is not None:
            self._first, self._last = self.state.first_vid, self.state.last_vid
            self._passages = self.state.passages
        self._index: Index | None = self._open()

    def __enter__(self) -> LexicalWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def covered(self) -> int:
        """The last vid that is in, committed or not; -1 if there is none: add what follows."""
        return self._last

    def add(self, vids: Ints, texts: Sequence[str]) -> None:
        """Add passages: int64 ``(n,)`` ascending and above all added before, with their texts.

        Raises UsageError for other vids, StorageError if they cannot be written.
        """
        numbers = np.asarray(vids, dtype=np.int64)
        if numbers.shape != (len(texts),):
            raise UsageError(f"{numbers.shape} vids do not fit {len(texts)} texts")
        if not len(texts):
            return
        if numbers[0] <= self._last or np.any(numbers[1:] <= numbers[:-1]):
            raise UsageError(f"vids must ascend, and start above {self._last}")
        from tantivy import Document

        with self._guard():
            for vid, text in zip(numbers.tolist(), texts, strict=True):
                joined = " ".join(words(text, self._language))
                self._make_room(len(joined))
                document = Document()
                document.add_unsigned(engine.VID, vid)
                document.add_text(engine.TEXT, joined)
                self._open_writer().add_document(document)
        self._first = int(numbers[0]) if self._first < 0 else self._first
        self._last = int(numbers[-1])
        self._passages += len(texts)

    def commit(self, last_vid: int | None = None) -> LexicalState:
        """Put everything on disk and describe it; the caller records the state, or forgets it.

        ``last_vid`` says that there are no passages from the last one added up to there.
        Raises StorageError, and the writer is then of no more use; UsageError for a ``last_vid``
        below what was added.
        """
        if last_vid is not None and last_vid < self._last:
            raise UsageError(f"passages up to {self._last} were added, not up to {last_vid}")
        with self._guard():
            self._finish()
            meta = (self._work / files.META).read_text(encoding="utf-8")
            segments = segments_of(meta)
            digests = {
                path.name: self._publish(path)
                for path in files.unlisted(self._work, ())
                if path.name.split(".")[0] in segments
            }
            fs.sync_folder(self._folder)
            self._drop_merged(segments)
        self._last = self._last if last_vid is None else last_vid
        self.state = LexicalState(
            meta=meta,
            files=digests,
            first_vid=self._first,
            last_vid=self._last,
            passages=self._passages,
            engine=engine.version(),
            language=self._language,
        )
        return self.state

    def collect_garbage(self, keep: Iterable[LexicalState]) -> list[str]:
        """Delete the files that none of these states refers to; returns their names.

        Readers that have them open are not disturbed. Raises StorageError.
        """
        kept = {name for state in keep for name in state.files}
        removed = []
        for path in files.unlisted(self._folder, kept):
            with fs.storage_errors(path):
                fs.remove(path)
            removed.append(path.name)
        return removed

    def close(self) -> None:
        """Drop what was not committed. May be called twice."""
        self._broken = True
        self._writer = None
        self._index = None
        files.clear(self._work)

    def _usable(self, state: LexicalState | None) -> LexicalState | None:
        if state is None or state.language != self._language:
            return None
        try:
            state.require_current()
            # Merging copies whatever it reads, so damage must be found before.
            files.verify(self._folder, state.files)
        except (Corrupt, Mismatch) as exc:
            log.warning("%s (being done now)", exc)
            return None
        return state

    def _open(self) -> Index:
        files.clear(self._work)
        with self._guard():
            self._work.mkdir()
            if self.state is None:
                return engine.create(str(self._work))
            for name in self.state.files:
                files.link(self._folder / name, self._work / name)
            (self._work / files.META).write_text(self.state.meta, encoding="utf-8")
            return engine.open_folder(str(self._work))

    def _open_writer(self) -> IndexWriter:
        if self._index is None:
            raise StorageError(_CLOSED.format(self._folder))
        if self._writer is None:
            engine.require_room(self._heap_bytes)
            self._writer = self._index.writer(self._heap_bytes, self._threads)
        return self._writer

    def _make_room(self, characters: int) -> None:
        self._pending += characters
        if self._pending > _MOST_PENDING and self._writer is not None:
            self._writer.commit()
            self._pending = characters

    def _finish(self) -> None:
        """Write what is pending and let merges end, so that the files stay as they are."""
        if self._writer is not None:
            self._writer.commit()
            self._writer.wait_merging_threads()
        self._writer = None
        self._pending = 0

    def _publish(self, path: Path) -> str:
        """Give a finished file its place in the folder, durably; returns its SHA-256."""
        target = self._folder / path.name
        if self.state is not None and path.name in self.state.files and target.exists():
            return self.state.files[path.name]
        target.unlink(missing_ok=True)  # left by a run whose state was never recorded
        fs.point("lexical-link")
        files.link(path, target)
        fs.sync_file(target)
        return fs.sha256_of(target)

    def _drop_merged(self, segments: set[str]) -> None:
        """Remove links that tantivy was given: it removes only what it wrote itself."""
        for path in files.unlisted(self._work, ()):
            prefix = path.name.split(".")[0]
            if len(prefix) == 32 and prefix not in segments:
                path.unlink(missing_ok=True)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        if self._broken:
            raise StorageError(_CLOSED.format(self._folder))
        self._broken = True
        try:
            with fs.storage_errors(self._folder):
                yield
        except ValueError as exc:  # how tantivy reports a failed write
            if number := _OS_ERROR.search(str(exc)):
                with fs.storage_errors(self._folder):
                    raise OSError(int(number[1]), str(exc)) from exc
            raise StorageError(f"{self._folder}: cannot write the lexical index: {exc}") from exc
        self._broken = False
