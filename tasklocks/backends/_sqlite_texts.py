"""Small texts by name in SQLite, each forgotten when its time is over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from sqlite3 import Cursor
from typing import TypeVar

from tasklocks.backends.base import RETENTION, Change
from tasklocks.backends.several import Slots, reserving
from tasklocks.types import Refused, ReserveRequest

__all__ = ["behind", "end_of", "forget_old", "reserve_all", "update"]

T = TypeVar("T")

_READ = "SELECT text FROM tasklocks_texts WHERE name = ? AND until > ?"
_BEHIND = "SELECT name, text FROM tasklocks_texts WHERE name > ? AND name < ? AND until > ? ORDER BY name LIMIT ?"
_WRITE = "INSERT OR REPLACE INTO tasklocks_texts (name, text, until) VALUES (?, ?, ?)"
_FORGET = "DELETE FROM tasklocks_texts WHERE name IN (SELECT name FROM tasklocks_texts WHERE until <= ? LIMIT 1000)"


def update(db: Cursor, key: str, change: Change[T]) -> T:
    """See `Backend.update`."""
    # The wall clock: what is reserved is named in messages, which may outlive this run of the host.
    now = time.time()
    found = db.execute(_READ, (key, now)).fetchone()
    text, keep, answer = change(found[0] if found else "", now)
    if not found or text != found[0]:
        db.execute(_WRITE, (key, text, now + keep))
    return answer


def reserve_all(db: Cursor, prefix: str, requests: Sequence[ReserveRequest]) -> Slots | Refused:
    """See `Backend.reserve_all`."""
    now = time.time()
    keys = [prefix + request.name for request in requests]
    found = [db.execute(_READ, (key, now)).fetchone() for key in keys]
    texts, keep, answer = reserving(requests, RETENTION)([row[0] if row else "" for row in found], now)
    if isinstance(answer, tuple):
        db.executemany(_WRITE, [(key, text, now + keep) for key, text in zip(keys, texts, strict=True)])
    return answer


def behind(db: Cursor, prefix: str, name: str, most: int) -> list[tuple[str, str]]:
    """Return name and content of the first texts behind `name`."""
    rows = db.execute(_BEHIND, (prefix + name, end_of(prefix), time.time(), most))
    return [(key[len(prefix) :], text) for key, text in rows]


def end_of(prefix: str) -> str:
    """Return what comes right behind all keys of a prefix, which ends with a colon."""
    return prefix[:-1] + ";"


def forget_old(db: Cursor) -> None:
    """Forget texts whose time is over, a bounded number at once."""
    db.execute(_FORGET, (time.time(),))
