"""Taking permits: by one who comes new, by one who has a lease already, and by one who waits in line."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from tasklocks import clock
from tasklocks.backends.zookeeper import line, turn
from tasklocks.backends.zookeeper.known import Held, Seat
from tasklocks.backends.zookeeper.limit import Limit
from tasklocks.backends.zookeeper.nodes import (
    GRANTED,
    LEASE,
    LEASES,
    WAITER,
    Header,
    Node,
    Row,
    digest,
    in_order,
    node_name,
    read,
    row,
    written,
)
from tasklocks.backends.zookeeper.session import missing
from tasklocks.backends.zookeeper.view import Settled
from tasklocks.errors import BackendUnavailable
from tasklocks.types import AcquireRequest, Busy, Grant, Place

__all__ = ["Wish", "held_as", "take"]

_CROWD = 4  # leases beyond the capacity that are listed when many ask at once
_LOWERED_FOR = 10.0  # seconds after which nobody is left who was granted under a larger capacity and did not take it


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
    if (held := known.held.get(wish.key)) is not None:
        return _extend(wish, held)
    if (seat := known.seats.get(wish.key)) is not None:
        return _ask_again(wish, seat)
    try:
        return _join(wish) if _looks_busy(wish) else _come_new(wish)
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
    place = request.place
    if place is not None and place.address is not None and len(listed[0]) > request.capacity + _CROWD:
        return _line_up(wish, mine, place)
    return _look_closer(wish, mine, held)


def _line_up(wish: Wish, mine: Node, place: Place) -> Grant | Busy | None:
    """Stand in line without a thorough look: so many come at once that it would never end."""
    seat = line.take_seat(wish.limit, wish.request, place, mine)
    seen = None if seat is None else turn.look(wish.limit, seat)
    if seat is None or seen is None or not _is_plain(wish, seen.header):
        return None
    return _take_place(wish, seat, seen)


def _created(wish: Wish, content: bytes, path: str, stat: Any) -> tuple[Node, Held]:
    session, request = wish.limit.session, wish.request
    session.note_time(stat.ctime, stat.czxid)
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
    known.busy[limit.path] = wish.asked + turn.BUSY_FOR
    if node in settled.granted:
        held = line.claim(limit, seat, settled)
        return None if held is None else wish.granted(held)
    if not _watches(limit, seat, settled, node):
        return None
    ahead = settled.waiting.index(node) if request.place is not None else line.in_line(settled)
    return line.busy(settled, ahead, wish.asked, wish.replaced)


def _watches(limit: Limit, seat: Seat, settled: Settled, node: Node) -> bool:
    # Those who were granted and did not take it yet are in front like the others.
    before = settled.view.line[: settled.view.line.index(node)]
    seat.row = settled.rows.get(seat.path, seat.row)
    view = settled.view
    return turn.arm(limit, seat, turn.Turn(view.header, view.leases, before, node, view.changes, False, seat.since))


def _looks_busy(wish: Wish) -> bool:
    place = wish.request.place
    limit, known = wish.limit, wish.limit.known
    header = known.headers.get(limit.path)
    if place is None or place.address is None or header is None:
        return False
    return known.busy.get(limit.path, 0.0) > wish.asked and _is_plain(wish, header)


def _join(wish: Wish) -> Grant | Busy | None:
    """Stand in line at once, where a lease would most likely have to be given back."""
    limit, request, session, known = wish.limit, wish.request, wish.limit.session, wish.limit.known
    assert request.place is not None  # noqa: S101 - for the type checker
    content = written(request.owner, request.ttl, request.info)
    path = f"{limit.queue}/{node_name(WAITER, request.permits, digest(request.owner))}"
    created, queue, top = session.ask(
        session.create(path, content, ephemeral=True, sequence=True),
        session.names(limit.queue),
        session.names(limit.path),
    )
    if missing(created) or missing(top):
        session.ask(session.container(limit.queue))
        known.busy.pop(limit.path, None)
        return None
    seat = Seat(limit.path, request, created[0], wish.asked, wish.asked + request.place.keep)
    known.sit(seat)
    session.note_time(created[1].ctime, created[1].czxid)
    seat.row = row(line.node_of(seat), content, created[1], session.token(created[1].czxid))
    seen = turn.seen(limit, seat, queue, top, unmarked_at=wish.asked)
    if _is_plain(wish, seen.header) and _twin(seen.leases, seen.mine) is None:
        return _take_place(wish, seat, seen)
    # An own lease or a new capacity is the business of a thorough look, before there is a place.
    session.ask(session.delete(seat.path))
    known.forget(seat)
    known.busy.pop(limit.path, None)
    return None


def _is_plain(wish: Wish, header: Header) -> bool:
    """Tell whether permits are as many as they were, so that who fits is who is granted."""
    settled = wish.limit.session.server_time() - header.lowered > _LOWERED_FOR
    return settled and header.capacity == wish.request.capacity


def _take_place(wish: Wish, seat: Seat, seen: turn.Turn) -> Grant | Busy | None:
    limit, known = wish.limit, wish.limit.known
    if seen.has_come:
        known.busy[limit.path] = min(known.busy.get(limit.path, 0.0), wish.asked + turn.CALM_AFTER)
        if (held := turn.take_turn(limit, seat, seen)) is None:
            return None
        known.forget(seat)
        return wish.granted(held)
    known.busy[limit.path] = wish.asked + turn.BUSY_FOR
    if not turn.arm(limit, seat, seen):
        seat.wake.set()
    return turn.busy_as_known(limit, seen, wish.asked, wish.replaced)


def _extend(wish: Wish, held: Held) -> Grant | None:
    limit, request, session = wish.limit, wish.request, wish.limit.session
    if held.waiter is not None or wish.asked >= held.deadline:
        return _start_over(wish, held)
    held.content = written(request.owner, request.ttl, request.info, token=held.token)
    answer, listed = session.ask(session.write(held.path, held.content), session.names(limit.path))
    if missing(answer):
        limit.known.held.pop(wish.key, None)
        return None
    limit.renewed(held, answer, wish.asked + request.ttl)
    if not missing(listed) and limit.header(listed[1].version).capacity != request.capacity:
        wish.settle()
    return wish.granted(held)


def _start_over(wish: Wish, held: Held) -> Grant | None:
    """Make a real lease of one that was granted for a moment; forget one that is over."""
    limit = wish.limit
    limit.known.held.pop(wish.key, None)
    if held.waiter is None:
        return None
    lease = line.turn_into_lease(limit, held.waiter, wish.request.ttl, None)
    return None if lease is None else wish.granted(lease)


def _give_way(wish: Wish, mine: Node, twin: Node, settled: Settled) -> None:
    """Take over what the owner has already, from another process or an attempt whose answer was lost."""
    limit = wish.limit
    limit.session.ask(limit.session.delete(mine.path))
    found = settled.rows.get(twin.path) or limit.rows([twin]).get(twin.path)
    if found is not None:
        limit.known.held[wish.key] = held_as(found, settled.now)


def held_as(lease: Row, server_time: float) -> Held:
    """Return a lease that another process took, as if it were ours."""
    now = clock.now()
    content = written(lease.owner, lease.ttl, lease.info, token=lease.token)
    deadline = now + (lease.until or server_time) - server_time
    since = now - (server_time - lease.since)
    return Held(lease.node.path, lease.node.permits, lease.token, content, deadline, since)


def _twin(nodes: Sequence[Node], mine: Node) -> Node | None:
    """Find another node of the same owner."""
    others = (node for node in nodes if node != mine and node.kind in (LEASE, GRANTED))
    return next((node for node in others if node.digest == mine.digest), None)


def _taken_before(leases: Sequence[Node], mine: Node) -> int:
    """Return the permits that are taken before `mine` counts; `leases` are in order.

    A lease that came after it, taken by one who did not wait, has counted it. All others came by a right of their own.
    """
    later = leases[leases.index(mine) :]
    return sum(node.permits for node in leases if node not in later or node.kind != LEASE)
