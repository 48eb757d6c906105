"""The line of one limit in SQLite: places of listening waiters in order, and of waiters who come back by themselves.

Both lines live in one table; `away` tells them apart. A line goes by `since`, the time since which each waits, and
`seq` grows by one along it, except before somebody who came late but has waited for longer.
"""

from __future__ import annotations

import math
import time
from sqlite3 import Cursor
from typing import Any

from tasklocks.types import AcquireRequest, Place

__all__ = ["ahead_of_newcomer", "drop_lapsed", "head", "is_behind", "leave", "take_place"]

_COUNTED = 200

_HEAD = """
SELECT owner, permits, ttl, address, info FROM tasklocks_waiters
WHERE name = ? AND away = 0 ORDER BY since, seq LIMIT 1"""

_FIRST = "SELECT MIN(since) FROM tasklocks_waiters WHERE name = ? AND away = 0"

_SEAT = "SELECT since, seq FROM tasklocks_waiters WHERE name = ? AND ticket = ? AND away = ?"

_LAST = """
SELECT seq FROM tasklocks_waiters WHERE name = ? AND away = ? AND since <= ? ORDER BY since DESC, seq DESC LIMIT 1"""

_ADD = """
INSERT INTO tasklocks_waiters (name, away, since, seq, ticket, owner, permits, ttl, until, address, info)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_REFRESH = """
UPDATE tasklocks_waiters SET owner = ?, permits = ?, ttl = ?, until = ?, address = ?, info = ?
WHERE name = ? AND away = ? AND since = ? AND seq = ?"""

_IN_FRONT = f"""
SELECT COUNT(*), MAX(seq) FROM (
    SELECT seq FROM tasklocks_waiters WHERE name = ? AND away = ? AND (since, seq) < (?, ?)
    ORDER BY since, seq LIMIT {_COUNTED})"""  # noqa: S608 - a number of ours


def head(db: Cursor, key: str) -> Any:
    """Return owner, permits, ttl, address and info of the first listening waiter; None if nobody listens."""
    return db.execute(_HEAD, (key,)).fetchone()


def is_behind(db: Cursor, key: str, owner: str, since: float | None, now: float) -> bool:
    """Return whether anyone listens in front of one who waits since then; whose place is kept is served from there."""
    (first,) = db.execute(_FIRST, (key,)).fetchone()
    if first is None or since is None or db.execute(_SEAT, (key, owner, 0)).fetchone():
        return first is not None
    return bool(first <= _on_this_clock(since, now))


def leave(db: Cursor, key: str, ticket: str, *, listening_only: bool = False) -> None:
    """Give up what `ticket` has in line."""
    lines = " AND away = 0" if listening_only else ""
    db.execute(f"DELETE FROM tasklocks_waiters WHERE name = ? AND ticket = ?{lines}", (key, ticket))  # noqa: S608


def drop_lapsed(db: Cursor, key: str, now: float) -> None:
    """Drop the places whose time is over."""
    db.execute("DELETE FROM tasklocks_waiters WHERE name = ? AND until <= ?", (key, now))


def take_place(db: Cursor, key: str, request: AcquireRequest, place: Place, now: float) -> int:
    """Enter or refresh the place that the request asks for; return how many are in front."""
    away = int(place.address is None)
    facts = (request.owner, request.permits, request.ttl, now + place.keep, place.address, request.info)
    seat = db.execute(_SEAT, (key, place.ticket, away)).fetchone()
    if seat:
        db.execute(_REFRESH, (*facts, key, away, *seat))
    else:
        since = _on_this_clock(request.since, now)
        seat = since, _after_last(db, key, away, since)
        db.execute(_ADD, (key, away, *seat, place.ticket, *facts))
    in_front = _in_front(db, key, away, *seat)
    return in_front + _length(db, key, 0) if away else in_front


def ahead_of_newcomer(db: Cursor, key: str) -> int:
    """Return how many wait, listening or not."""
    return _length(db, key, 0) + _length(db, key, 1)


def _on_this_clock(since: float | None, now: float) -> float:
    return now if since is None else min(now, now - (time.time() - since))


def _after_last(db: Cursor, key: str, away: int, since: float = math.inf) -> int:
    """Return the number of one who stands behind all that have waited since then."""
    last = db.execute(_LAST, (key, away, since)).fetchone()
    return last[0] + 1 if last else 1


def _length(db: Cursor, key: str, away: int) -> int:
    return _in_front(db, key, away, math.inf, _after_last(db, key, away))


def _in_front(db: Cursor, key: str, away: int, since: float, seq: int) -> int:
    """Count the places before one: the first few hundred one by one, the rest by the distance of their numbers.

    Counting all would make a step slower with every waiter. The distance is exact unless someone far from the head
    left, or came, out of turn; then it is a little wrong until the line has moved on.
    """
    counted: int
    counted, last = db.execute(_IN_FRONT, (key, away, since, seq)).fetchone()
    return counted if counted < _COUNTED else max(counted, counted + seq - last - 1)
