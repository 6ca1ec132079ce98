"""A search that a commit took the ground from begins again, with what is newest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

from semsearch.errors import SEE_CHECK, Corrupt, StorageError

if TYPE_CHECKING:
    from semsearch.collection.snapshot import Snapshot

_OF_ONE_GENERATION = 5
_OF_ALL = 200


class _HasSnapshot(Protocol):
    @property
    def snapshot(self) -> Snapshot: ...


View = TypeVar("View", bound=_HasSnapshot)


def attempts(newest: Callable[[], View]) -> Iterator[View]:
    """Yield the newest view, again and again, for as long as that may help.

    Whoever gets an answer from one takes no other. Raises Corrupt when the same generation lacks
    something every time, StorageError when a new one came between all of very many attempts.
    """
    tried: Counter[int] = Counter()
    while True:
        view = newest()
        number = view.snapshot.generation.gen
        path = view.snapshot.layout.catalog
        if tried[number] == _OF_ONE_GENERATION:
            raise Corrupt(f"{path}: passages without a row: {SEE_CHECK}")
        if tried.total() == _OF_ALL:
            raise StorageError(f"{path}: it is written to faster than it is read: try again")
        tried[number] += 1
        yield view
