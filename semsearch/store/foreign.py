"""What a catalog that somebody else made may hold to do harm, refused before SQLite acts on it."""

from __future__ import annotations

import re
from pathlib import Path

from semsearch import fs
from semsearch.errors import Corrupt, StorageError

_JOURNAL_END = bytes.fromhex("d9d505f920a163d7")
_PLAIN = re.compile(r'CREATE (TABLE|(UNIQUE )?INDEX)[\w\s"\[\](),]+')
_COMPUTED = frozenset({"ALWAYS", "AS", "CHECK", "DEFAULT", "GENERATED", "SELECT", "USING", "WHERE"})


def refuse_journal(path: Path) -> None:
    """Raise Corrupt for a journal of several databases, which we never write.

    Such a journal ends with the name of a file that SQLite deletes once it has been rolled back,
    and whoever made an index that comes from elsewhere chose the name.
    """
    journal = path.resolve().with_name(f"{path.resolve().name}-journal")
    try:
        with fs.open_plain(journal) as file:
            file.seek(max(0, journal.stat().st_size - len(_JOURNAL_END)))
            end = file.read()
    except FileNotFoundError:
        return
    except OSError as exc:
        raise StorageError(f"{journal}: cannot read: {exc.strerror or exc}") from exc
    if end == _JOURNAL_END:
        raise Corrupt(f"{journal}: names another file, which semsearch's never do: refused")


def is_bookkeeping(kind: str, table: str, sql: str) -> bool:
    """Tables of SQLite and of the migrations, with their indexes; never a trigger or a view.

    Plain columns only: none that are computed, no index of what is, no virtual table.
    """
    own = table.startswith("sqlite_") or table == "_sqlite_migrations"
    if not own or kind not in ("table", "index") or not _PLAIN.fullmatch(sql):
        return False
    computed = not _COMPUTED.isdisjoint(re.findall(r"\w+", sql.upper()))
    return not computed and (kind == "table" or sql.count("(") == 1)
