"""The steps on a limit in SQLite, each inside a transaction that holds the write lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from sqlite3 import Cursor

from tasklocks.backends import _sqlite_line as line
from tasklocks.backends._sqlite_limit import Knock, Limit, holders, look
from tasklocks.backends.base import HOLDERS_SHOWN
from tasklocks.types import AcquireRequest, Busy, Grant

__all__ = ["acquire", "force_release", "granted", "release", "renew_all", "take_back"]


def acquire(
    limit: Limit, request: AcquireRequest, begins: Callable[[], bool]
) -> tuple[Grant | Busy | None, list[Knock]]:
    """Do as `Backend.acquire`, but ask `begins` before a grant; None: it said no. Also return who was granted."""
    changed = limit.state_capacity(request.capacity)
    limit, knocks = limit.settled()
    if limit.is_mine:
        begins()
        limit.extend(request.ttl)
        return granted(limit, request, changed), knocks
    if limit.mine_closed is not None or request.permits > limit.free or limit.is_behind(request.since):
        return _busy(limit, request, changed), knocks
    if request.place is not None and limit.first_lapses is not None:
        line.leave(limit.db, limit.key, request.place.ticket)
    if not begins():
        return None, knocks
    limit.grant(request.owner, request.permits, request.ttl, request.info)
    return granted(limit, request, changed), knocks


def granted(limit: Limit, request: AcquireRequest, changed: int | None = None) -> Grant:
    """Return the lease that the owner has."""
    return Grant(
        request.name,
        request.owner,
        limit.mine_permits,
        request.ttl,
        limit.mine_token,
        limit.mine_expires,
        changed,
    )


def _busy(limit: Limit, request: AcquireRequest, changed: int | None) -> Busy:
    db, key, now = limit.db, limit.key, limit.now
    place = request.place
    ahead = line.take_place(db, key, request, place, now) if place else line.ahead_of_newcomer(db, key)
    return Busy(
        retry_after=None if limit.first_ends is None else limit.first_ends - now,
        ahead=ahead,
        holders=holders(db, key, now, HOLDERS_SHOWN),
        capacity=limit.capacity,
        usual_hold=limit.usual_hold,
        server_time=time.time(),
        asked_at=now,
        capacity_was=changed,
    )


def renew_all(
    db: Cursor, keys: Sequence[str], grants: Sequence[Grant], now: float
) -> tuple[list[Grant | None], list[Knock]]:
    """See `Backend.renew`. Also return who was granted."""
    answers: list[Grant | None] = []
    knocks: list[Knock] = []
    for key, grant in zip(keys, grants, strict=True):
        limit, granted = look(db, key, grant.owner, now).settled()
        knocks += granted
        answers.append(_renewed(limit, grant) if limit.is_mine else None)
    return answers, knocks


def _renewed(limit: Limit, grant: Grant) -> Grant:
    limit.extend(grant.ttl)
    return Grant(grant.name, grant.owner, limit.mine_permits, grant.ttl, limit.mine_token, limit.mine_expires)


def release(limit: Limit, keep: float) -> tuple[bool, list[Knock]]:
    """See `Backend.release`. Also return who was granted."""
    if limit.first_lapses is not None:
        line.leave(limit.db, limit.key, limit.owner, listening_only=True)
    ended = limit.is_mine
    if ended:
        limit.end(keep)
    return ended, limit.settled()[1]


def take_back(unheard: Sequence[Knock], db: Cursor, now: float) -> list[Knock]:
    """End leases whose owners nobody hears; return who was granted instead."""
    knocks: list[Knock] = []
    for knock in unheard:
        look(db, knock.key, knock.owner, now).take_back(knock)
        knocks += look(db, knock.key, knock.owner, now).settled()[1]
    return knocks


def force_release(limit: Limit, owner: str | None) -> tuple[int, list[Knock]]:
    """See `Backend.force_release`. Also return who was granted."""
    limit, knocks = limit.settled()
    ended = limit.take_away(owner)
    return ended, [*knocks, *look(limit.db, limit.key, "", limit.now).settled()[1]]
