"""Opening the catalog: settings, identity checks, transactions, one place for SQLite's errors."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from semsearch import fs
from semsearch.errors import SEE_CHECK, Corrupt, Mismatch, NotFound, StorageError
from semsearch.store import schema
from semsearch.store.foreign import is_bookkeeping, refuse_journal
from semsearch.store.schema import APPLICATION_ID

if TYPE_CHECKING:
    from sqlite_utils import Database

_SETTINGS = (
    "PRAGMA trusted_schema = 0",
    "PRAGMA cell_size_check = 1",
    "PRAGMA foreign_keys = 1",
    "PRAGMA cache_spill = 0",
    "PRAGMA mmap_size = 0",
    "PRAGMA temp_store = 2",
    "PRAGMA synchronous = EXTRA",  # the journal stays gone: FULL leaves its removal unsynced
)
_WRITING = tuple(
    f"SQLITE_IOERR_{what}" for what in ("WRITE", "FSYNC", "DIR_FSYNC", "TRUNCATE", "CLOSE")
)
_BUSY_SECONDS = 30.0
_COPY_PAGES = 4_096
_COPY_KIB = 65_536
"""So much is copied at once, and held at most until the copy is committed."""


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the catalog for reading. Raises NotFound, Mismatch (format, older or newer), Corrupt.

    The file is opened read-write with ``query_only``: a read-only connection could not roll back
    the journal that a killed writer left. On a read-only file system it is opened as it is.
    """
    if not path.is_file():
        raise no_index(path.parent)
    with database_errors(path):
        connection = _connect(path)
        try:
            connection.execute("PRAGMA query_only = 1")
            if _is_empty(connection, path):
                raise no_index(path.parent)
            version = _check_identity(connection, path)
            if version < schema.FORMAT:
                raise Mismatch(
                    f"{path}: the index has format {version}, this semsearch reads"
                    f" {schema.FORMAT}: `semsearch compact` brings it up to date, keep a copy of"
                    " the folder until that is done"
                )
        except BaseException:
            connection.close()
            raise
    return connection


def open_writer(path: Path) -> Database:
    """Open or create the catalog for writing; the caller holds the writer's lock.

    One of an older format is brought up to date, in one commit: all of it, or nothing. Raises
    StorageError, Mismatch (format), Corrupt.
    """
    from sqlite_utils import Database

    fs.make_folder(path.parent)
    with database_errors(path):
        connection = _connect(path)
        try:
            database = Database(connection, execute_plugins=False)
            connection.execute("PRAGMA journal_mode = DELETE")
            is_new = _is_empty(connection, path)
            if not is_new:
                _check_identity(connection, path)
            if is_new or schema.migrations().pending(database):
                _migrate(database, path)
        except BaseException:
            connection.close()
            raise
    return database


def _migrate(database: Database, path: Path) -> None:
    """Make the tables, or bring older ones up to date: one transaction."""
    with transaction(database.conn, path):
        schema.migrations().apply(database)
    fs.sync_folder(path.parent)


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """One commit: everything inside becomes visible together, or nothing does."""
    with database_errors(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            fs.point("commit")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    fs.point("committed")


def copy_database(source: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """Copy what a catalog holds into the new file ``path``, and open that: the caller closes it.

    Raises StorageError, Corrupt.
    """
    with database_errors(path):
        copy = _connect(path)
        try:
            source.backup(copy)
        except BaseException:
            copy.close()
            raise
    return copy


def replace_database(target: sqlite3.Connection, source: sqlite3.Connection, path: Path) -> None:
    """Let the catalog ``target``, at ``path``, hold what ``source`` holds. One commit.

    Pages are copied inside one transaction of ``target``, under its journal: whoever opens it after
    a crash finds the old content whole or the new one. Other connections wait meanwhile, up to 30
    seconds, and see the new content with their next statement. Memory is bounded. Raises
    StorageError, Corrupt; ``target`` then holds what it held.
    """
    waited_until = time.monotonic() + _BUSY_SECONDS

    def step(status: int, _remaining: int, _total: int) -> None:
        fs.point("swap")
        if status == sqlite3.SQLITE_BUSY and time.monotonic() > waited_until:
            raise StorageError(f"{path}: busy for {_BUSY_SECONDS:.0f} s: try again")

    with database_errors(path):
        target.execute(f"PRAGMA cache_size = -{_COPY_KIB}")
        target.execute("PRAGMA cache_spill = 1")  # the lock that this needs is held anyway
        fs.point("swap")
        try:
            source.backup(target, pages=_COPY_PAGES, progress=step)
        finally:
            target.execute("PRAGMA cache_spill = 0")
            target.execute("PRAGMA cache_size = -2000")
    fs.point("committed")


def roll_back_journal(path: Path) -> None:
    """Let SQLite undo what a killed writer left half done, as far as the catalog can be opened."""
    if not path.is_file():
        return
    with (
        suppress(sqlite3.Error, Corrupt, StorageError),  # the latter for a journal not of ours
        closing(_connect(path)) as connection,
    ):
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


@contextmanager
def snapshot_transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Several reads that all see the same generation."""
    with database_errors(path):
        connection.execute("BEGIN")
        try:
            yield
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, naming the file and what to do."""
    try:
        yield
    except sqlite3.OperationalError as exc:
        raise _translated(exc, path) from exc
    except (sqlite3.DatabaseError, UnicodeDecodeError) as exc:  # its own messages hold raw bytes
        raise _unreadable(exc, path) from exc


def _translated(exc: sqlite3.OperationalError, path: Path) -> Exception:
    name = getattr(exc, "sqlite_errorname", "")
    if name.startswith("SQLITE_FULL"):
        return StorageError(f"{path}: the disk is full: free some space and run again")
    if name.startswith(("SQLITE_READONLY", "SQLITE_PERM")):
        return StorageError(f"{path}: cannot open for writing: read-only folder or no permission")
    if name.startswith("SQLITE_CANTOPEN"):
        return StorageError(
            f"{path}: cannot open for writing: read-only folder, no permission, no space left or"
            " too many open files"
        )
    if name.startswith(_WRITING):  # SQLite does not say why
        return StorageError(
            f"{path}: cannot write: no space or no quota left, or the disk is failing ({name}):"
            " free some space and run again"
        )
    if name.startswith("SQLITE_BUSY"):
        return StorageError(f"{path}: busy for {_BUSY_SECONDS:.0f} s: try again")
    if name.startswith("SQLITE_IOERR"):
        return StorageError(f"{path}: the disk reports an input/output error ({name})")
    return _unreadable(exc, path)


def _unreadable(exc: Exception, path: Path) -> Corrupt:
    said = " ".join(str(exc).split())  # a damaged schema is quoted with its line breaks
    return Corrupt(f"{path}: the catalog is damaged ({said}): {SEE_CHECK}")


def _connect(path: Path) -> sqlite3.Connection:
    refuse_journal(path)
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        for setting in _SETTINGS:
            connection.execute(setting)
    except BaseException:
        connection.close()
        raise
    return connection


def _is_empty(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether nothing was ever committed; what a killed first run left is rolled back here."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    return bool(pages == 0) and path.stat().st_size == 0


def no_index(folder: Path) -> NotFound:
    """The error for a folder without an index: to be raised."""
    return NotFound(f"{folder}: no index there: make one with `semsearch index CORPUS -i {folder}`")


def _check_identity(connection: sqlite3.Connection, path: Path) -> int:
    """The format of a catalog that is one of ours. Raises Mismatch if it is newer, Corrupt."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise Corrupt(f"{path}: not a semsearch catalog: name another index with -i")
    if version > schema.FORMAT:
        raise Mismatch(
            f"{path}: the index has format {version}, this semsearch reads up to"
            f" {schema.FORMAT}: upgrade semsearch"
        )
    if version not in schema.SCHEMAS:
        raise Corrupt(f"{path}: {version} is no format of a semsearch catalog: refused")
    if _schema_of(connection) != _statements(schema.SCHEMAS[version]):
        raise Corrupt(f"{path}: tables, triggers or views that semsearch did not make: refused")
    return int(version)


def _schema_of(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute(  # a damaged column may have become a blob
        "SELECT CAST(type AS TEXT), CAST(tbl_name AS TEXT), CAST(sql AS TEXT) FROM sqlite_master"
        " WHERE sql IS NOT NULL"
    )
    return {sql for kind, table, sql in rows if not is_bookkeeping(kind, table, sql)}


def _statements(tables: str) -> set[str]:
    return {statement.strip() for statement in tables.split(";\n") if statement.strip()}
