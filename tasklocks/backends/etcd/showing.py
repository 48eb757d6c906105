"""What is said about a line to those who ask: busy answers, and holders as others see them."""

from __future__ import annotations

import time

from tasklocks import clock
from tasklocks.backends.base import GRANT_TTL, HOLDERS_SHOWN
from tasklocks.backends.etcd.keys import Entry
from tasklocks.backends.etcd.line import Line
from tasklocks.backends.etcd.mine import Mine
from tasklocks.backends.etcd.store import Store
from tasklocks.backends.etcd.wish import Wish
from tasklocks.types import Busy, Holder

__all__ = ["busy", "holder"]


def busy(wish: Wish, line: Line, mine: Mine | None = None) -> Busy:
    """Return the answer to a wish that cannot be fulfilled; `mine` is the place that its owner has in line."""
    now, name = clock.now(), wish.request.name
    holders = [holder(wish.store, name, entry, line, now) for entry in line.holders]
    return Busy(
        retry_after=min((each.expires_in for each in holders), default=None),
        ahead=_newcomers_ahead(wish, line) if mine is None else _ahead(line, mine),
        holders=tuple(holders[:HOLDERS_SHOWN]),
        capacity=line.capacity.permits,
        usual_hold=line.usual.hold,
        server_time=time.time(),
        asked_at=wish.asked_at,
        capacity_was=wish.capacity_was,
    )


def holder(store: Store, name: str, entry: Entry, line: Line, now: float) -> Holder:
    """Return what is to be said of an entry that holds permits.

    How long the lease of another process lasts is only known to etcd; what is said is the most that it can be.
    """
    mine = store.table.find(name, entry.owner)
    if mine is not None and mine.create == entry.create and (mine.taken_at is not None or mine.closed):
        left = max(0.0, mine.ends - now)
    else:
        left = entry.ttl if entry.since or entry.closed else min(entry.ttl, GRANT_TTL)
    since = entry.since or max(entry.joined, line.usual.released)
    return Holder(entry.owner, entry.permits, entry.token, since, left, entry.info)


def _ahead(line: Line, mine: Mine) -> int:
    """Count those in front; far from the head it is what was counted last."""
    own = line.own
    in_front = line.in_front_of(own) if own is not None else None
    if in_front is not None:
        mine.ahead = in_front
    return mine.ahead


def _newcomers_ahead(wish: Wish, line: Line) -> int:
    tickets = [away.ticket for away in line.away_now()]
    place = wish.request.place
    if place is not None and place.ticket in tickets:
        return line.waiting + tickets.index(place.ticket)
    return line.waiting + line.away_count
