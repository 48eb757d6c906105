"""Limits in the file of an SQLite database of Django's: the steps are those of `sqlite://`, the file is the project's.

Nothing that lasts is changed about the file, neither its journal mode nor its tables. `OPTIONS` (`init_command` above
all) count as they do for Django.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from tasklocks.backends._sqlite_store import Store, begin_run
from tasklocks.backends.base import Backend
from tasklocks.backends.django._database import Target
from tasklocks.backends.memory import MemoryBackend
from tasklocks.backends.sqlite import SQLiteLimits
from tasklocks.errors import BackendRefused, BackendUnavailable

__all__ = ["limits_in"]


def limits_in(target: Target, name: str, prefix: str) -> Backend:
    """Return the limits in the database that is called `name` now."""
    if target.wrapper().is_in_memory_db():
        # As in most test runs. Nobody but this process can see it; and a transaction of a test would lock us out of it.
        return MemoryBackend()
    path = _path(name)
    return SQLiteLimits(path, lambda: _DjangoStore(target, path), prefix)


class _DjangoStore(Store):
    """The file of one of Django's databases, as one process uses it."""

    def __init__(self, target: Target, path: str) -> None:
        super().__init__(path, target.timeout)
        self._target = target
        self._wrapper = target.wrapper()

    def _connected(self) -> sqlite3.Connection:
        self._wrapper = self._target.wrapper()
        wanted: dict[str, Any] = self._wrapper.get_connection_params()
        # Waiting is the store's business, and so are transactions.
        db: sqlite3.Connection = sqlite3.connect(**{**wanted, "timeout": 0, "isolation_level": None})
        return db

    def _set_up(self, db: sqlite3.Connection) -> None:
        # Here, for others may be in the way of them, too.
        for command in getattr(self._wrapper, "init_commands", []):  # Django >= 5.1
            db.execute(command)
        begin_run(db, self.path, self._not_migrated)

    def _not_migrated(self, db: sqlite3.Connection) -> NoReturn:
        raise BackendRefused(self._target.not_migrated)

    def _translated(self, error: sqlite3.Error) -> BackendUnavailable:
        if "no such table" in str(error):
            return BackendRefused(self._target.not_migrated)
        return super()._translated(error)

    def _in_the_way(self) -> BackendUnavailable:
        if not self._target.in_transaction():
            return super()._in_the_way()
        return BackendUnavailable(
            f"{self._target.where} is locked, most likely by this thread: SQLite has one writer at a time, and the "
            "thread is inside atomic() on the same file; take the lock before the transaction begins, or keep the "
            "locks in a file of their own (a second entry in DATABASES, and django://its-name)"
        )


def _path(name: str) -> str:
    return os.path.abspath(unquote(urlsplit(name).path) if name.startswith("file:") else name)
