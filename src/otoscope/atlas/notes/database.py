"""The SQLite file that notes live in: many threads and programs write to it at once, and nothing in it ever changes.

Write-ahead log, so that readers never wait for a writer. `synchronous=FULL`: a note that was accepted survives a power
cut; that costs one fsync per note, and notes come at the speed of typing. Writers take the lock at the start of their
transaction (`BEGIN IMMEDIATE`) and wait for each other up to `BUSY_S`. Triggers refuse to change or remove a revision.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from otoscope.errors import OtoscopeError

APPLICATION_ID, VERSION = 0x4F746F4E, 1
"""The first spells "OtoN"."""
BUSY_S = 30.0

SCHEMA = """
CREATE TABLE revision (
  id INTEGER PRIMARY KEY,
  revision TEXT NOT NULL UNIQUE,
  identity TEXT NOT NULL,
  note TEXT NOT NULL,
  dictionary TEXT NOT NULL, fingerprint TEXT NOT NULL, feature INTEGER NOT NULL,
  kind TEXT NOT NULL, created TEXT NOT NULL, editor TEXT NOT NULL, edited TEXT NOT NULL,
  text TEXT NOT NULL, blind INTEGER NOT NULL, deleted INTEGER NOT NULL,
  record TEXT NOT NULL
);
CREATE INDEX revision_by_feature ON revision (fingerprint, feature);
CREATE INDEX revision_by_note ON revision (note);
CREATE INDEX revision_by_identity ON revision (identity);
CREATE TABLE parent (parent TEXT NOT NULL, revision TEXT NOT NULL, PRIMARY KEY (parent, revision)) WITHOUT ROWID;
CREATE TRIGGER revision_stays BEFORE UPDATE ON revision BEGIN SELECT RAISE(ABORT, 'revisions never change'); END;
CREATE TRIGGER revision_remains BEFORE DELETE ON revision BEGIN SELECT RAISE(ABORT, 'revisions are never removed'); END;
"""
WORDS = "CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(text, tokenize = 'unicode61 remove_diacritics 0')"
"""An index of all texts by word, made where SQLite has FTS5; it follows `revision`, and is caught up when it lags."""


class Database:
    """A connection that threads share; opened when first needed, and again if the file was replaced meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return what a query finds; nothing where the file does not exist yet.

        Raises:
            OtoscopeError: the file is damaged, is not ours, or stays locked.
        """
        with self.lock, self._plain_errors():
            if not self.path.exists():
                return []
            return self._open().execute(sql, parameters).fetchall()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction that no other writer can come between; an error undoes all of it.

        Raises:
            OtoscopeError: the disk is full, the file is damaged, or it stays locked for `BUSY_S`.
        """
        with self.lock, self._plain_errors():
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def has_words(self) -> bool:
        """Tell whether the word index is there and complete."""
        if not self.rows("SELECT 1 FROM sqlite_master WHERE name = 'words'"):
            return False
        try:
            return self.rows(_LAG) == [(0,)]
        except OtoscopeError:
            return False

    def index_words(self, connection: sqlite3.Connection) -> None:
        """Bring the word index up to date, inside a transaction; without FTS5, searching does without it."""
        connection.execute("SAVEPOINT words")
        try:
            connection.execute(WORDS)
            connection.execute(
                "INSERT INTO words (rowid, text) SELECT id, text FROM revision "
                "WHERE id > (SELECT coalesce(max(rowid), 0) FROM words)"
            )
        except sqlite3.OperationalError as error:
            connection.execute("ROLLBACK TO words")
            if "no such module" not in str(error):
                raise
        connection.execute("RELEASE words")

    def close(self) -> None:
        """Let go of the file; the next use opens it again."""
        with self.lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._file == _file_of(self.path):
            return self._connection
        self.close()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.create_function("casefold", 1, str.casefold, deterministic=True)
            connection.execute("PRAGMA synchronous = FULL")
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        weakref.finalize(self, connection.close)
        self._connection, self._file = connection, _file_of(self.path)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the tables of a new file; refuse a file that is something else."""
        connection.execute("BEGIN")
        ready = self._is_ready(connection)
        connection.execute("COMMIT")
        if ready:
            return
        _use_write_ahead_log(connection)
        connection.execute("BEGIN IMMEDIATE")
        if not self._is_ready(connection):  # another program may have been first
            for statement in (SCHEMA + f"PRAGMA application_id = {APPLICATION_ID}").split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")

    def _is_ready(self, connection: sqlite3.Connection) -> bool:
        """Tell whether the file has our tables (or is new); asked inside a transaction, so that all answers fit."""
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (owner, version) == (APPLICATION_ID, VERSION):
            return True
        if owner == APPLICATION_ID:
            raise OtoscopeError(f"{self.path} has version {version}; this program reads version {VERSION}.")
        if owner or n_tables:
            raise OtoscopeError(f"{self.path} is a database of another program; move it away to keep notes here.")
        return False

    @contextlib.contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise OtoscopeError(self._sentence(error)) from error
        except OSError as error:
            raise OtoscopeError(f"Could not write {self.path}: {error.strerror or error}.") from error

    def _sentence(self, error: sqlite3.Error) -> str:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return f"Another program kept {self.path} locked for {BUSY_S:.0f} s; close it and try again."
        if code == sqlite3.SQLITE_FULL:
            return f"The disk is full: could not write {self.path}; free some space and try again."
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            return f"{self.path} cannot be opened for writing ({error}); check who may write there."
        return f"{self.path} is damaged and cannot be read ({error}); import the last export into a new one."


_LAG = "SELECT coalesce((SELECT max(id) FROM revision), 0) - coalesce((SELECT max(rowid) FROM words), 0)"


def _file_of(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Switch the log on; unlike all else in SQLite, this does not wait for programs that switch it on just now."""
    until = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
