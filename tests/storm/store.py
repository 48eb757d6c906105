"""What sections write to: a store that keeps the largest token of each limit and refuses a write with a smaller one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

__all__ = ["Store"]

_TABLES = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL, token INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS written (name TEXT NOT NULL, token INTEGER NOT NULL, PRIMARY KEY (name, token));
"""
_CLAIM = "UPDATE counter SET token = :token WHERE name = :name AND token <= :token RETURNING value"
_WRITE = "UPDATE counter SET value = :value WHERE name = :name AND token = :token"


class Store:
    """A number for each limit, and all tokens with which it was written."""

    def __init__(self, path: Path) -> None:
        # A process may be frozen in the middle of its write.
        self._database = sqlite3.connect(path, timeout=60, isolation_level=None)
        self._make_tables()
        self._database.execute("PRAGMA synchronous = OFF")

    def _make_tables(self) -> None:
        # SQLite does not wait for others while it changes the journal's mode.
        busy = retry_if_exception_type(sqlite3.OperationalError)
        again = Retrying(retry=busy, wait=wait_fixed(0.05), stop=stop_after_delay(60), reraise=True)
        again(self._database.executescript, _TABLES)

    def claim(self, name: str, token: int) -> int | None:
        """Return the number, and refuse every smaller token from now on; None: a larger one was here before."""
        # Read without a claim, a late holder could still write between this read and the write that builds on it.
        with self._transaction() as database:
            database.execute("INSERT OR IGNORE INTO counter VALUES (?, 0, 0)", (name,))
            rows = database.execute(_CLAIM, {"name": name, "token": token}).fetchall()
        return rows[0][0] if rows else None

    def write(self, name: str, value: int, token: int) -> bool:
        """Set the number, unless somebody with a larger token was here; return whether it was set."""
        with self._transaction() as database:
            if database.execute(_WRITE, {"name": name, "value": value, "token": token}).rowcount == 0:
                return False
            database.execute("INSERT INTO written VALUES (?, ?)", (name, token))
            return True

    def value(self, name: str) -> int:
        row = self._database.execute("SELECT value FROM counter WHERE name = ?", (name,)).fetchone()
        return row[0] if row else 0

    def tokens(self, name: str) -> set[int]:
        return {token for (token,) in self._database.execute("SELECT token FROM written WHERE name = ?", (name,))}

    def close(self) -> None:
        self._database.close()

    def _transaction(self) -> sqlite3.Connection:
        self._database.execute("BEGIN IMMEDIATE")
        return self._database  # as a context it commits, or rolls back
