"""Taking permits: by one who comes new, by one who has a lease already, and by one who waits in line."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tasklocks import clock
from tasklocks.backends.zookeeper import line
from tasklocks.backends.zookeeper.known import Held, Seat
from tasklocks.backends.zookeeper.limit import Limit, Settled
from tasklocks.backends.zookeeper.nodes import (
    GRANTED,
    LEASE,
    LEASES,
    Node,
    Row,
    digest,
    in_order,
    node_name,
    read,
    written,
)
from tasklocks.backends.zookeeper.session import missing
from tasklocks.errors import BackendUnavailable
from tasklocks.types import AcquireRequest, Busy, Grant

__all__ = ["Wish", "held_as", "take"]


@dataclasses.dataclass(slots=True)
class Wish:
    """One acquire; `replaced` is the capacity that it replaced, if it did."""

    limit: Limit
    request: AcquireRequest
    asked: float
    replaced: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What this process remembers its lease or its place by."""
        return self.limit.path, self.request.owner

    def settle(self, **who: Node) -> Settled | None:
        """Settle the limit with the wish's capacity."""
        settled = self.limit.settle(capacity=self.request.capacity, **who)
        if settled is not None and settled.replaced is not None:
            self.replaced = settled.replaced
        return settled

    def granted(self, held: Held) -> Grant:
        """Keep the lease in mind, and return it."""
        request = self.request
        self.limit.known.held[self.key] = held
        return Grant(request.name, request.owner, held.permits, request.ttl, held.token, held.deadline, self.replaced)


def take(wish: Wish) -> Grant | Busy | None:
    """Try once; None if something changed meanwhile."""
    wish.asked = clock.now()
    known = wish.limit.known
    if (held := known.held.get(wish.key)) is not None and wish.asked < held.deadline:
        return _extend(wish, held)
    if (seat := known.seats.get(wish.key)) is not None:
        return _ask_again(wish, seat)
    try:
        return _come_new(wish)
    except BackendUnavailable:
        # A lease may be there that nobody knows of.
        known.strays.append((wish.limit, digest(wish.request.owner)))
        raise


def _come_new(wish: Wish) -> Grant | Busy | None:
    limit, request, session = wish.limit, wish.request, wish.limit.session
    content = written(request.owner, request.ttl, request.info)
    name = node_name(LEASE, request.permits, digest(request.owner))
    created, listed = session.ask(
        session.create(f"{limit.path}/{name}", content, sequence=True), session.names(limit.path)
    )
    if missing(created):
        limit.make(request.capacity)
        return None
    mine, held = _created(wish, content, *created)
    if _fits_at_once(wish, mine, listed):
        return wish.granted(held)
    return _look_closer(wish, mine, held)


def _created(wish: Wish, content: bytes, path: str, stat: Any) -> tuple[Node, Held]:
    session, request = wish.limit.session, wish.request
    session.note_time(stat.ctime)
    folder, _, name = path.rpartition("/")
    mine = read(folder, name)
    assert mine is not None  # noqa: S101 - it is the name that we gave
    deadline = wish.asked + request.ttl
    return mine, Held(path, request.permits, session.token(stat.czxid), content, deadline, clock.now())


def _fits_at_once(wish: Wish, mine: Node, listed: Any) -> bool:
    """Tell whether nobody waits and what was there before leaves room."""
    names, stat = listed
    if "q" in names or "a" in names:
        return False
    leases = wish.limit.nodes(wish.limit.path, names, LEASES)
    fits = _taken_before(leases, mine) + mine.permits <= wish.request.capacity
    return fits and _twin(leases, mine) is None and wish.limit.header(stat.version).capacity == wish.request.capacity


def _look_closer(wish: Wish, mine: Node, held: Held) -> Grant | Busy | None:
    limit, request = wish.limit, wish.request
    settled = wish.settle(without=mine)
    if settled is None:
        return None
    twin = _twin([*settled.view.leases, *settled.view.line], mine)
    if twin is not None:
        _give_way(wish, mine, twin, settled)
        return None
    leases = in_order([*settled.view.leases, mine])
    taken = _taken_before(leases, mine) + sum(node.permits for node in settled.granted)
    if not settled.waiting and taken + request.permits <= request.capacity:
        if request.place is not None and settled.view.away:
            line.leave_away(limit, request.place.ticket)
        return wish.granted(held)
    return _wait_or_go(wish, mine, settled)


def _wait_or_go(wish: Wish, mine: Node, settled: Settled) -> Grant | Busy | None:
    limit, request, place = wish.limit, wish.request, wish.request.place
    if place is not None and place.address is not None:
        seat = line.take_seat(limit, request, place, mine)
        return None if seat is None else _ask_again(wish, seat)
    # Waited for: a process that ends now must not leave a lease behind.
    limit.session.ask(limit.session.delete(mine.path))
    ahead = line.in_line(settled) if place is None else line.take_away_place(limit, request, place, settled)
    return line.busy(settled, ahead, wish.asked, wish.replaced)


def _ask_again(wish: Wish, seat: Seat) -> Grant | Busy | None:
    limit, request, known = wish.limit, wish.request, wish.limit.known
    if request.place is not None:
        seat.request, seat.until = request, wish.asked + request.place.keep
    node = line.node_of(seat)
    settled = wish.settle(served=node)
    if settled is None or node not in settled.view.line:
        known.forget(seat)
        return None
    if node in settled.granted:
        held = line.claim(limit, seat, settled)
        return None if held is None else wish.granted(held)
    if not line.watch(limit, seat, settled):
        return None
    ahead = settled.waiting.index(node) if request.place is not None else line.in_line(settled)
    return line.busy(settled, ahead, wish.asked, wish.replaced)


def _extend(wish: Wish, held: Held) -> Grant | None:
    limit, request, session = wish.limit, wish.request, wish.limit.session
    held.content = written(request.owner, request.ttl, request.info, token=held.token)
    answer, listed = session.ask(session.write(held.path, held.content), session.names(limit.path))
    if missing(answer):
        limit.known.held.pop(wish.key, None)
        return None
    limit.renewed(held, answer, wish.asked + request.ttl)
    if not missing(listed) and limit.header(listed[1].version).capacity != request.capacity:
        wish.settle()
    return wish.granted(held)


def _give_way(wish: Wish, mine: Node, twin: Node, settled: Settled) -> None:
    """Take over what the owner has already, from another process or an attempt whose answer was lost."""
    limit = wish.limit
    limit.session.ask(limit.session.delete(mine.path))
    row = settled.rows.get(twin.path) or limit.rows([twin]).get(twin.path)
    if row is not None and twin.kind in (LEASE, GRANTED):
        limit.known.held[wish.key] = held_as(row, settled.now)


def held_as(row: Row, server_time: float) -> Held:
    """Return a lease that another process took, as if it were ours."""
    now = clock.now()
    content = written(row.owner, row.ttl, row.info, token=row.token)
    deadline = now + (row.until or server_time) - server_time
    return Held(row.node.path, row.node.permits, row.token, content, deadline, now - (server_time - row.since))


def _twin(nodes: Sequence[Node], mine: Node) -> Node | None:
    """Find another node of the same owner."""
    ours = (node for node in nodes if node.digest == mine.digest and node != mine)
    return next((node for node in ours if node.kind in (LEASE, GRANTED)), None)


def _taken_before(leases: Sequence[Node], mine: Node) -> int:
    """Return the permits that are taken before `mine` counts; `leases` are in order.

    A lease that came after it, taken by one who did not wait, has counted it. All others came by a right of their own.
    """
    later = leases[leases.index(mine) :]
    return sum(node.permits for node in leases if node not in later or node.kind != LEASE)
