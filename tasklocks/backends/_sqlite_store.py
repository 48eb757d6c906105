"""One SQLite database, one connection a process: transactions that are bounded in time and survive forks.

SQLite keeps what it knows of a file's locks in a table of the process. A child that inherits an open connection
inherits that table, and then even connections of its own go wrong: one made while the parent was in a transaction
finds the database locked for ever, and one that outlives the parent's connection writes to a log that the parent
deletes when it closes. So the connection is closed before each fork, and both sides open it again.
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tasklocks import clock
from tasklocks.backends._sqlite_limit import SCHEMA
from tasklocks.errors import BackendRefused, BackendUnavailable

__all__ = ["Store", "begin_run"]

_VERSION = 2

_KEEP_TOKENS = """
UPDATE tasklocks_limits SET token = MAX(token, COALESCE(
    (SELECT MAX(token) FROM tasklocks_leases WHERE tasklocks_leases.name = tasklocks_limits.name), 0))"""

_FIRST_PAUSE = 0.00005
_LONGEST_PAUSE = 0.005

_stores: list[weakref.ref[Store]] = []

T = TypeVar("T")


class Store:
    """The database at `path`, as one process uses it.

    A step has the connection for itself: SQLite has one writer at a time anyway, and threads that wait for a lock
    take over faster than threads that find the database busy.

    Args:
        path: the file.
        timeout: seconds that a step waits for other processes before it raises `BackendUnavailable`.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self.path = path
        self.timeout = timeout
        self._lock = threading.Lock()
        self._paused = False
        self._db: sqlite3.Connection | None = None
        self._cursor: sqlite3.Cursor | None = None
        self._file: tuple[int, int] | None = None
        _stores.append(weakref.ref(self, _stores.remove))

    def write(self, work: Callable[[sqlite3.Cursor, float], T]) -> T:
        """Return `work(cursor, now)`, done in one transaction that no other one overlaps."""
        return self._step(["BEGIN IMMEDIATE"], work)

    def read(self, work: Callable[[sqlite3.Cursor, float], T]) -> T:
        """Return `work(cursor, now)`, which sees the database as it was at one moment."""
        # The first look takes the lock for reading, and waits for it where a commit is in the way.
        return self._step(["BEGIN", "SELECT 1 FROM sqlite_master LIMIT 1"], work)

    def close(self) -> None:
        """Close the connection; the next step opens it again."""
        with self._lock:
            self._drop()

    def pause(self) -> None:
        """Close the connection and keep steps out until `resume`."""
        # Every step is bounded, so this wait is. Only a fork from a signal handler inside a step is not waited for.
        self._paused = self._lock.acquire(timeout=self.timeout + 1)
        if self._paused:
            self._drop()

    def resume(self) -> None:
        """Let steps in again."""
        if self._paused:
            self._paused = False
            self._lock.release()

    def _step(self, begin: Sequence[str], work: Callable[[sqlite3.Cursor, float], T]) -> T:
        deadline = clock.now() + self.timeout
        with self._lock:
            try:
                cursor = self._ready(deadline)
                for statement in begin:
                    self._patiently(cursor.execute, statement, deadline)
                answer = work(cursor, clock.now())
                # Without a log of its own, as in a file of somebody else's, a commit waits for who is reading.
                self._patiently(cursor.execute, "COMMIT", deadline)
            except sqlite3.Error as error:
                self._drop()
                raise self._translated(error) from error
            except BaseException:
                # Also a soft time limit or Ctrl-C, wherever it strikes: an open transaction would stop every process.
                self._roll_back()
                raise
        return answer

    def _ready(self, deadline: float) -> sqlite3.Cursor:
        if self._cursor is not None and self._file == _identity(self.path):
            self._roll_back()
            return self._cursor
        # The first step; or somebody deleted the file, and what is locked in it is locked for nobody else.
        self._drop()
        self._db = self._opened(deadline)
        self._cursor = self._db.cursor()
        self._file = _identity(self.path)
        return self._cursor

    def _opened(self, deadline: float) -> sqlite3.Connection:
        _check_place(self.path)
        db = self._connected()
        try:
            self._patiently(lambda _: self._set_up(db), "", deadline)
        except BaseException:
            db.close()
            raise
        return db

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)

    def _set_up(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        begin_run(db, self.path, _make_tables)

    def _patiently(self, work: Callable[[str], object], what: str, deadline: float) -> None:
        """Do `work(what)` as soon as no other process is in the way.

        SQLite's own waiting sleeps in steps of up to 100 ms, which a hand-off between processes would feel.
        """
        pause = _FIRST_PAUSE
        while True:
            try:
                work(what)
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                if clock.now() >= deadline:
                    raise self._in_the_way() from error
            else:
                return
            clock.pause(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - jitter
            pause = min(pause * 1.2, _LONGEST_PAUSE)

    def _in_the_way(self) -> BackendUnavailable:
        return BackendUnavailable(
            f"database {self.path} is locked by another process since more than {self.timeout:g} s; "
            "if one is stopped or hangs there, resume or end it"
        )

    def _translated(self, error: sqlite3.Error) -> BackendUnavailable:
        if "not a database" in str(error):
            return BackendRefused(f"{self.path} is not an SQLite database; name another file in the sqlite:// URL")
        if "malformed" in str(error):
            return BackendUnavailable(
                f"database {self.path} is damaged ({error}): stop what uses it and, if nothing but locks is in it, "
                "delete it with its -wal and -shm files; it is made anew, and only leases are lost"
            )
        return BackendUnavailable(f"database {self.path} cannot be used: {error}")

    def _roll_back(self) -> None:
        if self._db is not None and self._db.in_transaction:
            try:
                self._db.execute("ROLLBACK")
            except sqlite3.Error:
                self._drop()

    def _drop(self) -> None:
        db, self._db, self._cursor = self._db, None, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()


def begin_run(db: sqlite3.Connection, path: str, make_tables: Callable[[sqlite3.Connection], None]) -> None:
    """Make the database ready for this run of the host; `make_tables` is called if they are not there."""
    if _has_tables(db) and db.execute("SELECT version, boot FROM tasklocks_meta").fetchone() == (_VERSION, _boot()):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        if not _has_tables(db):
            make_tables(db)
        _adopt(db, path)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _has_tables(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'tasklocks_meta'").fetchone() is not None


def _make_tables(db: sqlite3.Connection) -> None:
    for statement in SCHEMA.split(";\n"):
        db.execute(statement)


def _adopt(db: sqlite3.Connection, path: str) -> None:
    if not db.execute("SELECT 1 FROM tasklocks_meta").fetchone():
        db.execute("INSERT INTO tasklocks_meta (version, boot) VALUES (?, ?)", (_VERSION, _boot()))
    version, boot = db.execute("SELECT version, boot FROM tasklocks_meta").fetchone()
    if version != _VERSION:
        raise BackendRefused(
            f"the tables in {path} are of version {version}, this tasklocks knows version {_VERSION}; "
            "use one version of tasklocks on this host, or another file"
        )
    if boot != _boot():
        # The host was started anew: its clock began again at 0, and nobody of before is alive.
        db.execute(_KEEP_TOKENS)
        db.execute("DELETE FROM tasklocks_leases")
        db.execute("DELETE FROM tasklocks_waiters")
        db.execute("UPDATE tasklocks_limits SET used_at = ?", (clock.now(),))
        db.execute("UPDATE tasklocks_meta SET boot = ?", (_boot(),))


def _boot() -> str:
    """Return what tells this run of the host from every other one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        asked = subprocess.run(
            ["sysctl", "-n", "kern.bootsessionuuid"],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
        )
        return asked.stdout.strip()


def _check_place(path: str) -> None:
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise BackendRefused(f"there is no directory {directory} for the database {path}; create it first")
    if os.path.isdir(path):
        raise BackendRefused(f"the database {path} is a directory; name a file in it in the sqlite:// URL")
    # SQLite makes two more files beside the database, so the directory matters even if the file exists.
    for place in (directory, path):
        if os.path.exists(place) and not os.access(place, os.W_OK):
            raise BackendRefused(f"this process may not write to {place}, which the database {path} needs")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_busy(error: sqlite3.OperationalError) -> bool:
    # "locking protocol": SQLite's own way of saying that others changed the log under it many times in a row.
    return "locked" in str(error) or "locking protocol" in str(error)


def _before_fork() -> None:
    for store in [reference() for reference in list(_stores)]:
        if store is not None:
            store.pause()


def _after_fork_in_parent() -> None:
    for store in [reference() for reference in list(_stores)]:
        if store is not None:
            store.resume()


# The child makes stores of its own; the parent's stay paused in it for ever.
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_stores.clear)
