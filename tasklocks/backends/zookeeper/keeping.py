"""What happens to leases that are there: renewal, release, and what others may know of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tasklocks import clock
from tasklocks.backends.base import HOLD_WEIGHT, moving_average
from tasklocks.backends.zookeeper import line
from tasklocks.backends.zookeeper.known import Held, Known, Seat
from tasklocks.backends.zookeeper.limit import Limit
from tasklocks.backends.zookeeper.nodes import (
    GRANTED,
    KEPT,
    LEASE,
    WAITER,
    Header,
    Node,
    Row,
    digest,
    node_name,
    written,
)
from tasklocks.backends.zookeeper.session import BadVersionError, failure, missing
from tasklocks.backends.zookeeper.taking import held_as
from tasklocks.backends.zookeeper.view import Settled, serve
from tasklocks.errors import BackendUnavailable
from tasklocks.types import Grant, LimitState, Waiter

__all__ = ["force_release", "inspect", "leave", "release", "renew", "take_back_strays"]

_TRIES = 30
_SAME_HOLD = 0.01  # seconds by which the usual hold may be off before somebody writes it down


def renew(wanted: Sequence[tuple[Limit, Grant]]) -> list[Grant | None]:
    """Extend the leases, all in one round trip, and serve who waits for their limits."""
    if not wanted:
        return []
    asked, session = clock.now(), wanted[0][0].session
    held = [_held_by(limit, grant) for limit, grant in wanted]
    limits = {limit.path: limit for limit, _ in wanted}
    writes = [session.write(each.path, each.content) for each in held if each is not None]
    answers = iter(session.ask(*writes, *(session.names(path) for path in limits)))
    renewed = [
        None if each is None else _renewed(limit, grant, each, next(answers), asked)
        for (limit, grant), each in zip(wanted, held, strict=True)
    ]
    for limit, listed in zip(limits.values(), answers, strict=True):
        if not missing(listed) and "q" in listed[0]:
            limit.settle()
    return renewed


def _held_by(limit: Limit, grant: Grant) -> Held | None:
    held = limit.known.held.get((limit.path, grant.owner))
    if held is not None and held.waiter is not None:
        held = line.turn_into_lease(limit, held.waiter, grant.ttl, None)
    elif held is None:
        held = _find_to_keep(limit, grant)
    return held if held is not None and held.token == grant.fencing_token else None


def _renewed(limit: Limit, grant: Grant, held: Held, answer: Any, asked: float) -> Grant | None:
    if missing(answer):
        limit.known.held.pop((limit.path, grant.owner), None)
        return None
    limit.renewed(held, answer, asked + grant.ttl)
    limit.known.held[limit.path, grant.owner] = held
    return Grant(grant.name, grant.owner, held.permits, grant.ttl, held.token, held.deadline)


def _find_to_keep(limit: Limit, grant: Grant) -> Held | None:
    """Find a lease that another process took, or that was granted to a waiter."""
    row, now = _look_for(limit, grant.owner)
    if row is None or row.token != grant.fencing_token:
        return None
    if row.node.kind != WAITER:
        return held_as(row, now)
    if seat := limit.known.seats.get((limit.path, grant.owner)):
        limit.known.forget(seat)
    return line.turn_into_lease(limit, row, grant.ttl, None)


def _look_for(limit: Limit, owner: str) -> tuple[Row | None, float]:
    """Return what `owner` was granted, as its node says, and the server's time."""
    settled = limit.settle()
    return (None, 0.0) if settled is None else (_granted_to(limit, settled, owner), settled.now)


def _granted_to(limit: Limit, settled: Settled, owner: str) -> Row | None:
    nodes, who = (*settled.view.leases, *settled.granted), digest(owner)
    found = [node for node in nodes if node.digest == who and node.kind != KEPT]
    return next(iter(limit.rows(found).values()), None)


def release(limit: Limit, owner: str, keep: float) -> bool:
    """End a lease; tell whether it was still there."""
    held = limit.known.held.pop((limit.path, owner), None) or _find_to_end(limit, owner)
    if held is None:
        return False
    limit.known.rows.pop(held.path, None)
    in_time = clock.now() < held.deadline
    return (_keep_permits(limit, held, owner, keep) if keep > 0 else _end(limit, held)) and in_time


def _find_to_end(limit: Limit, owner: str) -> Held | None:
    """Find a lease that another process took; what that one has in line is given up."""
    for _ in range(_TRIES):
        settled = limit.settle()
        row = None if settled is None else _granted_to(limit, settled, owner)
        if settled is None or row is not None:
            return None if settled is None or row is None else held_as(row, settled.now)
        places = [node for node in settled.waiting if node.digest == digest(owner)]
        # Whose place is gone when it is to be removed has left, or holds a lease since.
        if not places or True in limit.session.ask(*(limit.session.delete(node.path) for node in places)):
            return None
    return None


def _end(limit: Limit, held: Held) -> bool:
    """End the lease, and write the usual hold down if it changed by much."""
    session, header = limit.session, _learned(limit, held)
    end = session.delete(held.path)
    if header is None:
        return failure(session.ask(end)[0]) is None
    # The header first: who waits hears of it first, and then does not take the end of the lease for all that happened.
    (answer,) = session.ask(session.together(limit.header_write(header), end))
    if isinstance(failure(answer), BadVersionError):
        # Somebody else wrote the header, so the usual hold is that one's.
        return failure(session.ask(end)[0]) is None
    if failure(answer) is None:
        limit.known.headers[limit.path] = dataclasses.replace(header, version=answer[0].version)
    return failure(answer) is None


def _learned(limit: Limit, held: Held) -> Header | None:
    """Return the header with a usual hold that the lease has changed by much; None if it has not."""
    header = limit.known.headers.get(limit.path)
    if header is None:
        return None
    was, hold = header.usual_hold, moving_average(header.usual_hold, clock.now() - held.since)
    if was is not None and abs(hold - was) <= max(_SAME_HOLD, was * HOLD_WEIGHT / 2):
        return None
    return dataclasses.replace(header, usual_hold=hold)


def _keep_permits(limit: Limit, held: Held, owner: str, keep: float) -> bool:
    """Replace the lease by one that nobody can use and that ends `keep` seconds from now."""
    session = limit.session
    path = f"{limit.path}/{node_name(KEPT, held.permits, digest(owner))}"
    content = written(owner, keep, "", token=held.token)
    change = [session.delete(held.path), session.part(path, content, sequence=True)]
    for _ in range(_TRIES):
        header = limit.fresh_header()
        changed = _learned(limit, held) or header
        # The header changes with it in any case: who waits for the lease's end must not take this for one.
        (answer,) = session.ask(session.together(limit.header_write(changed), *change))
        if not isinstance(failure(answer), BadVersionError):
            return failure(answer) is None
    return False


def take_back_strays(known: Known, mine: tuple[str, str] | None = None) -> None:
    """Remove what was asked for by owners who were told that nothing is known, and who went away.

    An owner that is here again (it asks, waits or holds) is left alone, for what is found may be what it just got;
    it does this for itself, as `mine`, before it asks.
    """
    strays, known.strays = known.strays, []
    while strays:
        limit, who = strays[-1]
        try:
            if (limit.path, who) == mine or not known.is_here(limit.path, who):
                _take_back(limit, who, mine)
            else:
                known.strays.append(strays[-1])
            strays.pop()
        except BackendUnavailable:
            known.strays += strays
            raise


def _take_back(limit: Limit, who: str, mine: tuple[str, str] | None) -> None:
    known, session = limit.known, limit.session
    nodes = [*_children(limit, limit.path), *_children(limit, limit.queue)]
    # Looked at again after the listing: who came meanwhile has made what may be in it.
    if (limit.path, who) != mine and known.is_here(limit.path, who):
        known.strays.append((limit, who))
        return
    ours = {held.path for held in list(known.held.values())} | {seat.path for seat in list(known.seats.values())}
    doomed = [node for node in nodes if node.digest == who and node.path not in ours]
    if doomed:
        session.ask(*(session.delete(node.path) for node in doomed))


def _children(limit: Limit, folder: str) -> list[Node]:
    (listed,) = limit.session.ask(limit.session.names(folder))
    return [] if missing(listed) else limit.nodes(folder, listed[0], (LEASE, GRANTED, WAITER))


def leave(limit: Limit, seat: Seat) -> bool:
    """Give up a place in line; tell whether it had been granted."""
    session = limit.session
    limit.known.forget(seat)
    settled = limit.settle()
    (answer,) = session.ask(session.delete(seat.path))
    return answer is True and settled is not None and line.node_of(seat) in settled.granted


def force_release(limit: Limit, owner: str | None) -> int:
    """End the lease of `owner`, or all; return how many there were."""
    settled = limit.settle()
    if settled is None:
        return 0
    session, who = limit.session, None if owner is None else digest(owner)
    doomed = [node for node in (*settled.view.leases, *settled.granted) if who in (None, node.digest)]
    if not doomed:
        return 0
    ended = session.ask(*(session.delete(node.path) for node in doomed)).count(True)
    limit.settle()
    return ended


def inspect(limit: Limit) -> LimitState:
    """Return all that is known of the limit."""
    view = limit.view()
    if view is None:
        header = limit.known.headers.get(limit.path, Header(0, None, 0))
        return LimitState(limit.name, header.capacity, (), (), header.usual_hold)
    now = limit.session.server_time()
    rows = limit.rows([*view.leases, *view.line, *view.away])
    view.leases = [node for node in view.leases if _lives(rows.get(node.path), now)]
    view.line = [node for node in view.line if _lives(rows.get(node.path), now)]
    settled = serve(Settled(view, rows, [], [], now))
    waiting = [*settled.waiting, *limit.present(view.away, now)]
    return LimitState(
        limit.name,
        view.header.capacity,
        tuple(line.holder(settled, row) for row in settled.holders()),
        tuple(_waiter(rows[node.path]) for node in waiting if node.path in rows),
        view.header.usual_hold,
    )


def _lives(row: Row | None, now: float) -> bool:
    return row is not None and (row.until is None or row.until > now)


def _waiter(row: Row) -> Waiter:
    listening = row.node.kind == WAITER
    since = row.since if listening else int(row.node.digest.split(".")[2]) / 1000
    return Waiter(row.owner, row.node.permits, since, listening, row.info)
