"""The ranking that an index was tuned to: kept in its catalog, used by every search."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from semsearch.errors import Corrupt, UsageError
from semsearch.ranking.settings import Ranking
from semsearch.store import catalog
from semsearch.store.database import database_errors

if TYPE_CHECKING:
    from semsearch.collection.snapshot import Snapshot
    from semsearch.collection.writer import Writer

_KEY = "ranking"


def record_ranking(writer: Writer, ranking: Ranking | None) -> None:
    """Search this index so from now on; None means the default again. One commit.

    It is a generation, so that who has the index open notices.
    """
    with writer.generation():
        catalog.set_meta(writer.connection, _KEY, ranking.to_json() if ranking else "")
    writer.refresh()


def tuned_ranking(snapshot: Snapshot, connection: sqlite3.Connection) -> Ranking | None:
    """What was recorded, or None. Raises Corrupt."""
    with database_errors(snapshot.layout.catalog):
        text = catalog.get_meta(connection, _KEY)
    if not text:
        return None
    try:
        return Ranking.from_json(text)
    except UsageError as exc:
        raise Corrupt(f"{snapshot.layout.catalog}: {exc}: tune again, or index again") from exc
