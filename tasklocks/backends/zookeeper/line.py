"""Waiting for a limit: places of those who listen and of those who come back by themselves."""

from __future__ import annotations

from tasklocks import clock
from tasklocks.backends.base import HOLDERS_SHOWN
from tasklocks.backends.zookeeper.known import Held, Seat
from tasklocks.backends.zookeeper.limit import Limit
from tasklocks.backends.zookeeper.nodes import (
    AWAY,
    GRANTED,
    WAITER,
    Node,
    Row,
    digest,
    node_name,
    read,
    written,
)
from tasklocks.backends.zookeeper.session import failure, missing
from tasklocks.backends.zookeeper.view import Settled
from tasklocks.types import AcquireRequest, Busy, Holder, Place

__all__ = [
    "busy",
    "claim",
    "holder",
    "in_line",
    "leave_away",
    "node_of",
    "take_away_place",
    "take_seat",
    "turn_into_lease",
]

_COUNTED = 500  # places of those who are away; of more it is only known that they are many


def take_seat(limit: Limit, request: AcquireRequest, place: Place, instead_of: Node) -> Seat | None:
    """Turn a lease that did not fit into a place in line; None if the limit went away meanwhile."""
    session, asked = limit.session, clock.now()
    name = node_name(WAITER, request.permits, digest(request.owner))
    content = written(request.owner, request.ttl, request.info)
    change = session.together(
        session.delete(instead_of.path),
        session.part(f"{limit.queue}/{name}", content, ephemeral=True, sequence=True),
    )
    (answer,) = session.ask(change)
    if failure(answer) is not None:
        _, answer = session.ask(session.container(limit.queue), change)
    if failure(answer) is not None:
        return None
    seat = Seat(limit.path, request, answer[1], asked, asked + place.keep)
    limit.known.sit(seat)
    return seat


def node_of(seat: Seat) -> Node:
    """Return the node of a place."""
    folder, _, name = seat.path.rpartition("/")
    node = read(folder, name)
    assert node is not None  # noqa: S101 - it is the name that we gave
    return node


def claim(limit: Limit, seat: Seat, settled: Settled) -> Held | None:
    """Turn a place that was granted into a lease; None if something changed meanwhile."""
    row = settled.rows.get(seat.path)
    if row is None:
        return None
    # Who is marked has its permits whatever the capacity is now.
    version = None if row.marked else settled.view.header.version
    held = turn_into_lease(limit, row, seat.request.ttl, version)
    if held is not None:
        limit.known.forget(seat)
    return held


def turn_into_lease(limit: Limit, waiter: Row, ttl: float, version: int | None) -> Held | None:
    """Replace a waiter's node by a lease with the same token; None if it is gone or the limit's header changed."""
    session, asked = limit.session, clock.now()
    path = f"{limit.path}/{node_name(GRANTED, waiter.node.permits, waiter.node.digest)}"
    content = written(waiter.owner, ttl, waiter.info, token=waiter.token)
    same = [] if version is None else [session.unchanged(limit.path, version)]
    change = (*same, session.delete(waiter.node.path), session.part(path, content, sequence=True))
    (answer,) = session.ask(session.together(*change))
    if failure(answer) is not None:
        return None
    return Held(answer[-1], waiter.node.permits, waiter.token, content, asked + ttl, clock.now())


def in_line(settled: Settled) -> int:
    """Return how many wait."""
    return len(settled.waiting) + len(settled.view.away)


def take_away_place(limit: Limit, request: AcquireRequest, place: Place, settled: Settled) -> int:
    """Enter or refresh the place of one who is away; return how many are in front."""
    away, ticket = settled.view.away, digest(place.ticket)
    old = next((node for node in away if node.digest.partition(".")[0] == ticket), None)
    if old is None and len(away) >= _COUNTED:
        return in_line(settled)
    session = limit.session
    since = f"{settled.now * 1000:.0f}" if old is None else old.digest.split(".")[2]
    who = f"{ticket}.{(settled.now + place.keep) * 1000:.0f}.{since}"
    content = written(place.ticket, place.keep, request.info)
    path = f"{limit.outside}/{node_name(AWAY, request.permits, who, old.seq if old else None)}"
    change = session.together(
        *([session.delete(old.path)] if old else []), session.part(path, content, sequence=old is None)
    )
    (answer,) = session.ask(change)
    if old is None and failure(answer) is not None:
        session.ask(session.container(limit.outside), change)
    in_front = len(away) if old is None else away.index(old)
    return len(settled.waiting) + in_front


def leave_away(limit: Limit, ticket: str) -> None:
    """Give up the place of one who was away."""
    session = limit.session
    (listed,) = session.ask(session.names(limit.outside))
    who = digest(ticket)
    for name in [] if missing(listed) else listed[0]:
        node = read(limit.outside, name)
        if node is not None and node.digest.partition(".")[0] == who:
            session.send(session.delete(node.path))


def busy(settled: Settled, ahead: int, asked: float, changed: int | None) -> Busy:
    """Return the answer to one who got nothing."""
    rows = settled.holders()
    ends = [settled.ends(each) - settled.now for each in rows]
    header = settled.view.header
    return Busy(
        retry_after=min(ends, default=None),
        ahead=ahead,
        holders=tuple(holder(settled, each) for each in rows[:HOLDERS_SHOWN]),
        capacity=header.capacity,
        usual_hold=header.usual_hold,
        server_time=settled.now,
        asked_at=asked,
        capacity_was=changed,
    )


def holder(settled: Settled, row: Row) -> Holder:
    """Return a holder as others see it."""
    since = settled.now if row.until is None else row.since
    return Holder(row.owner, row.node.permits, row.token, since, settled.ends(row) - settled.now, row.info)
