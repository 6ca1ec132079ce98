"""An index of the same documents by another model, made beside the one that is served.

It follows the served index: what changed since it was last filled is brought over, and only that
is encoded. So a run that was stopped goes on where it was, and an index that was swapped out can
be put back with everything that came since. ``collection.swap`` lets it take the place.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from semsearch.collection.beside import (
    FOLLOWED,
    SERVED,
    choices_of,
    forget_beside,
    plain_choices,
    token_choice,
)
from semsearch.collection.swap import fresh_ids, shares_ids
from semsearch.collection.writer import Writer, open_for_writing
from semsearch.errors import Corrupt, Mismatch, NotFound, UsageError
from semsearch.indexing.room import require_room_beside
from semsearch.indexing.run import check_dims, finish, run_indexing
from semsearch.indexing.source import WINDOW_DOCUMENTS, Source
from semsearch.indexing.summary import Summary
from semsearch.indexing.token_vectors import (
    choose_token_vectors,
    complete_tokens,
    refuse_token_vectors,
)
from semsearch.store import catalog, documents
from semsearch.store.database import database_errors
from semsearch.store.documents import Mark

if TYPE_CHECKING:
    from semsearch.encoders import Encoder
    from semsearch.types import Document

log = logging.getLogger("semsearch")


@dataclass(frozen=True, slots=True)
class Behind:
    """What the index beside lacks of the served one.

    ``rows`` are those of documents to be read, ascending; ``gone`` the ids of documents to be
    deleted; ``choices`` the settings that were chosen meanwhile.
    """

    rows: list[int]
    gone: list[str]
    choices: dict[str, str]


@contextmanager
def open_new_beside(live: Writer, encoder: Encoder, dims: int | None = None) -> Iterator[Writer]:
    """Open the index of this model beside a served one, or begin it, to be filled.

    ``dims`` is its stored width; None is that of the model, or goes on as it was begun. What is
    there of another model or width is thrown away, with a note, unless it served before: that is
    what ``--undo`` needs. Raises UsageError then, when the served index is of this model, or holds
    nothing yet, and for a width that the model does not have; ModelError, Locked, StorageError.
    """
    served = live.snapshot.encoder
    folder = live.layout.folder
    if served is None:
        raise UsageError(f"{folder}: no documents yet: `semsearch index CORPUS -m {encoder.name}`")
    if served.fingerprint == encoder.fingerprint:
        raise UsageError(f"{folder}: {encoder.name} serves this index already: nothing to do")
    check_dims(encoder, dims)
    reason = _unfit(live, encoder, dims)
    if reason is not None:
        log.warning("%s: %s: thrown away and made anew", live.layout.beside.folder, reason)
        forget_beside(live.layout)
    with open_for_writing(live.layout.beside) as beside:
        if beside.snapshot.encoder is None and catalog.next_id(beside.connection, "passage") == 1:
            fresh_ids(live, beside)
        yield beside


@contextmanager
def open_old_beside(live: Writer) -> Iterator[Writer]:
    """Open the index that served before, to be put back.

    Raises NotFound when there is none; Locked, StorageError, Corrupt.
    """
    layout = live.layout
    if not layout.beside.catalog.is_file():
        raise NotFound(
            f"{layout.folder}: nothing to put back: no index that served before is beside it"
        )
    with open_for_writing(layout.beside) as beside:
        encoder = beside.snapshot.encoder
        if catalog.get_meta(beside.connection, SERVED) is None or encoder is None:
            name = encoder.name if encoder else "MODEL"
            raise NotFound(
                f"{layout.folder}: nothing to put back: the index beside it never served:"
                f" `semsearch reindex -m {name}` goes on with it"
            )
        yield beside


def _unfit(live: Writer, encoder: Encoder, dims: int | None) -> str | None:
    """Why what is beside is not the index wanted; None if it is, or nothing is there."""
    if not live.layout.beside.catalog.is_file():
        return None
    try:
        with open_for_writing(live.layout.beside) as beside:
            found = beside.snapshot.encoder
            if found is None:
                return None
            reason = None
            if found.fingerprint != encoder.fingerprint:
                reason = f"the index of {found.name}"
            elif dims is not None and dims != beside.snapshot.dims:
                reason = f"the index of {beside.snapshot.dims} dimensions"
            elif shares_ids(live, beside):
                reason = "a copy of the index that is served"
            if reason and catalog.get_meta(beside.connection, SERVED) is not None:
                raise UsageError(
                    f"{live.layout.folder}: {reason}, which served before, is kept beside it:"
                    " `semsearch reindex --forget` deletes it, --undo puts it back"
                )
            return reason
    except (Corrupt, Mismatch) as exc:
        return str(exc)


def what_is_behind(live: Writer, beside: Writer) -> Behind:
    """Compare the documents and the choices of both indexes. Memory: one number a difference."""
    now = choices_of(live.connection)
    followed = json.loads(catalog.get_meta(beside.connection, FOLLOWED) or "{}")
    choices = {key: value for key, value in now.items() if value != followed.get(key)}
    recut = "long_text" in choices  # only who reads a document again sees how it would be cut
    rows: list[int] = []
    gone: list[str] = []
    with database_errors(live.layout.catalog):
        for ours, theirs in _pairs(live, beside):
            if ours is None and theirs is not None:
                gone.append(theirs.ext_id)
            elif ours is not None and (recut or _differ(ours, theirs)):
                rows.append(ours.doc_id)
    return Behind(sorted(rows), gone, choices)


def _differ(ours: Mark, theirs: Mark | None) -> bool:
    if theirs is None:
        return True
    return (ours.source, ours.content_hash) != (theirs.source, theirs.content_hash)


def _pairs(live: Writer, beside: Writer) -> Iterator[tuple[Mark | None, Mark | None]]:
    """The marks of both indexes, id by id, in the order of the ids."""
    first, second = documents.live_marks(live.connection), documents.live_marks(beside.connection)
    ours, theirs = next(first, None), next(second, None)
    while ours is not None or theirs is not None:
        if theirs is None or (ours is not None and ours.ext_id < theirs.ext_id):
            yield ours, None
            ours = next(first, None)
        elif ours is None or theirs.ext_id < ours.ext_id:
            yield None, theirs
            theirs = next(second, None)
        else:
            yield ours, theirs
            ours, theirs = next(first, None), next(second, None)


def bring_up_to_date(
    live: Writer,
    beside: Writer,
    behind: Behind,
    load: Callable[[], Encoder],
    *,
    dims: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Let the index beside hold the documents of the served one, each from the same source.

    ``load`` is called when something is to be encoded, ``progress`` with the number of documents
    done since the last call. Raises Mismatch when ``load`` gives another model than the index's,
    InputError for a text that is too long where such are refused, ModelError, StorageError.
    """
    _follow(beside, behind.choices)
    for start in range(0, len(behind.gone), WINDOW_DOCUMENTS):
        beside.delete(behind.gone[start : start + WINDOW_DOCUMENTS])
    tokens = token_choice(behind.choices) if beside.snapshot.encoder is not None else None
    if tokens is False:
        refuse_token_vectors(beside)
    if behind.rows or beside.snapshot.encoder is None or tokens:
        encoder = load()
        require_room_beside(live, beside, encoder, dims)
        if tokens:
            choose_token_vectors(beside, encoder)
        source = Source("", _documents(live, behind.rows), prunable=False, own_sources=True)
        summary = run_indexing(beside, encoder, [source], dims=dims, progress=progress)
        if tokens:
            complete_tokens(beside, encoder)
    else:
        summary = Summary()
        finish(beside)
    summary.pruned = len(behind.gone)
    _record(live, beside)
    return summary


def _follow(beside: Writer, choices: dict[str, str]) -> None:
    """Choose for the index beside what was chosen for the served one."""
    plain = plain_choices(choices)
    if plain:
        with beside.transaction() if beside.snapshot.encoder is None else beside.generation():
            for key, value in plain.items():
                catalog.set_meta(beside.connection, key, value)
        beside.refresh()
    if beside.snapshot.encoder is None and token_choice(choices) is False:
        refuse_token_vectors(beside)


def _documents(live: Writer, rows: list[int]) -> Iterator[Document]:
    """Documents of the served index, by their rows, some at a time."""
    numbers = iter(rows)
    while part := list(islice(numbers, WINDOW_DOCUMENTS)):
        with database_errors(live.layout.catalog):
            found = documents.documents_of(live.connection, part)
        for number in part:
            yield found[number].document


def _record(live: Writer, beside: Writer) -> None:
    """Note what is followed now: the sources that runs read to their end, the choices."""
    wanted = set(catalog.sources(live.connection)) - set(catalog.sources(beside.connection))
    followed = json.dumps(choices_of(live.connection), sort_keys=True)
    with beside.transaction():
        for uri in sorted(wanted):
            catalog.put_source(beside.connection, uri, None, beside.snapshot.generation.gen)
        catalog.set_meta(beside.connection, FOLLOWED, followed)
