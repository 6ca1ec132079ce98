"""The catalog's schema: numbered migrations recorded in the database, applied in a transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations

APPLICATION_ID = 0x53454D53  # "SEMS"
FORMAT = 1
"""``PRAGMA user_version``: a newer one is refused, an older one is migrated by the next writer."""

TABLES = """
CREATE TABLE meta (k TEXT PRIMARY KEY, v TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE encoder (
    encoder_id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
    revision TEXT, dim INTEGER NOT NULL, matryoshka_dims TEXT NOT NULL, prompts TEXT NOT NULL,
    max_length INTEGER NOT NULL, runtime TEXT NOT NULL, precision TEXT NOT NULL,
    crc INTEGER NOT NULL);
CREATE TABLE rotation (
    rotation_id INTEGER PRIMARY KEY, encoder_id INTEGER NOT NULL REFERENCES encoder,
    fitted_on INTEGER NOT NULL, dim INTEGER NOT NULL, matrix BLOB NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE generation (
    gen INTEGER PRIMARY KEY, n_document INTEGER NOT NULL, n_passage INTEGER NOT NULL,
    sum_crc INTEGER NOT NULL, n_seg INTEGER NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE source (
    uri TEXT PRIMARY KEY, content_sha256 TEXT, gen INTEGER NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE document (
    doc_id INTEGER PRIMARY KEY AUTOINCREMENT, ext_id TEXT NOT NULL, source TEXT NOT NULL,
    title TEXT NOT NULL, body TEXT NOT NULL, meta TEXT NOT NULL, content_hash BLOB NOT NULL,
    added_gen INTEGER NOT NULL, deleted_gen INTEGER, crc INTEGER NOT NULL);
CREATE UNIQUE INDEX document_live ON document(ext_id) WHERE deleted_gen IS NULL;
CREATE INDEX document_dead ON document(deleted_gen) WHERE deleted_gen IS NOT NULL;
CREATE INDEX document_source ON document(source) WHERE deleted_gen IS NULL;
CREATE TABLE passage (
    vid INTEGER PRIMARY KEY AUTOINCREMENT, doc_id INTEGER NOT NULL REFERENCES document,
    ord INTEGER NOT NULL, "start" INTEGER NOT NULL, "end" INTEGER NOT NULL,
    text_hash BLOB NOT NULL, encoder_id INTEGER NOT NULL REFERENCES encoder,
    tokens INTEGER NOT NULL, unknown INTEGER NOT NULL, truncated INTEGER NOT NULL,
    crc INTEGER NOT NULL);
CREATE INDEX passage_document ON passage(doc_id);
CREATE INDEX passage_text ON passage(text_hash, encoder_id);
CREATE TABLE segment (
    seg_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL,
    n INTEGER NOT NULL, first_vid INTEGER NOT NULL, last_vid INTEGER NOT NULL,
    encoder_id INTEGER NOT NULL REFERENCES encoder, rotation_id INTEGER REFERENCES rotation,
    tok_name TEXT, tok_sha256 TEXT, added_gen INTEGER NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE l0 (
    vid INTEGER PRIMARY KEY REFERENCES passage, encoder_id INTEGER NOT NULL REFERENCES encoder,
    rotation_id INTEGER REFERENCES rotation, vec BLOB NOT NULL, tok BLOB, crc INTEGER NOT NULL);
CREATE TABLE cache (
    name TEXT PRIMARY KEY, kind TEXT NOT NULL, files TEXT NOT NULL, covers TEXT NOT NULL,
    params TEXT NOT NULL, gen INTEGER NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE field (
    key TEXT NOT NULL, kind TEXT NOT NULL, value, doc_id INTEGER NOT NULL,
    PRIMARY KEY (key, kind, value, doc_id)) WITHOUT ROWID;
"""

SCHEMAS = {1: TABLES}
"""The tables of every format that was ever written: an index must have exactly those of its own."""


def migrations() -> Migrations:
    """All format changes in order; each is applied once, in the transaction that is open."""
    from sqlite_utils.migrations import Migrations

    steps = Migrations("semsearch")

    @steps(name="0001_tables")
    def tables(db: Database) -> None:
        for statement in TABLES.split(";\n"):
            if statement.strip():
                db.execute(statement)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {FORMAT}")

    return steps
