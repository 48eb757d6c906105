"""A waiter's turn: what it looks at when it comes to a busy limit and when it is woken, and what it takes.

`limit` looks at everything and settles it; here only that is asked for which can bring a turn, all in one round trip.
What is over does not matter for that: the head of the line looks again, thoroughly, when a lease may have ended.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tasklocks import clock
from tasklocks.backends.base import GRANT_TTL, WAITER_TTL
from tasklocks.backends.zookeeper import line
from tasklocks.backends.zookeeper.known import Held, Seat, content_of
from tasklocks.backends.zookeeper.limit import Limit
from tasklocks.backends.zookeeper.nodes import LEASES, WAITER, Header, Node, read_header
from tasklocks.backends.zookeeper.session import missing
from tasklocks.backends.zookeeper.view import Settled, View, serve
from tasklocks.errors import BackendUnavailable
from tasklocks.types import AcquireRequest, Busy, Grant

__all__ = ["BUSY_FOR", "CALM_AFTER", "Turn", "arm", "busy_as_known", "look", "seen", "take_turn", "woken"]

BUSY_FOR = 1.0
"""Seconds for which a limit at which somebody had to wait is taken for busy."""

CALM_AFTER = 0.05
"""The same after somebody stood in line in vain: of a few who use it in turns, now and then none waits."""

_TRIES = 30
_WATCHED = 8  # leases that the head of the line watches one by one
_SHORT_HOLD = 0.2
_RECENTLY = 1.0  # seconds; so much less lasts what was granted after a glance
_MARGIN = 0.005


@dataclass(slots=True)
class Turn:
    """What one waiter saw.

    before: the waiters in front of it.
    changes: the number of changes among the limit's children.
    marked: somebody marked it as granted.
    unmarked_at: local time; nobody marked it before.
    """

    header: Header
    leases: list[Node]
    before: list[Node]
    mine: Node
    changes: int
    marked: bool
    unmarked_at: float

    @property
    def has_come(self) -> bool:
        """Whether all in front leave room."""
        taken = sum(node.permits for node in (*self.leases, *self.before, self.mine))
        return taken <= self.header.capacity


def glance(limit: Limit, seat: Seat) -> Turn | None:
    """Return what is in front of a place that was taken a moment ago; None if that takes a look.

    The server that we are connected to may lag behind. What it shows was true when something happened that came after
    the place was taken; if the turn had come then, it has come for good. Others may have marked the place since, and
    remove it some seconds after that: not before so many seconds have passed since it was taken.
    """
    if seat.heard & {"", content_of(limit.path)} or clock.now() > seat.since + _RECENTLY:
        return None
    queue, top = limit.session.ask(limit.session.names(limit.queue), limit.session.names(limit.path))
    if missing(queue) or missing(top) or seat.path.rpartition("/")[2] not in queue[0]:
        return None
    turn = seen(limit, seat, queue, top, unmarked_at=seat.since)
    return turn if _is_whole(turn, seat.request) else None


def look(limit: Limit, seat: Seat) -> Turn | None:
    """Return what is in front of a place; None if the place is lost."""
    session, asked = limit.session, clock.now()
    # The server that we are connected to may lag behind; after a sync it does not.
    header = [session.content(limit.path)] if content_of(limit.path) in seat.heard else []
    _, queue, top, own, *changed = session.ask(
        session.sync(limit.path),
        session.names(limit.queue),
        session.names(limit.path),
        session.stat(seat.path),
        *header,
    )
    if own is None or missing(queue) or missing(top):
        return None
    for content, stat in changed:
        limit.known.headers[limit.path] = read_header(content, stat.version)
    return seen(limit, seat, queue, top, marked=own.version > 0, unmarked_at=asked)


def seen(limit: Limit, seat: Seat, queue: Any, top: Any, *, marked: bool = False, unmarked_at: float) -> Turn:
    """Return what two listings tell one waiter."""
    mine, stat = line.node_of(seat), top[1]
    waiters = limit.nodes(limit.queue, queue[0], (WAITER,))
    before = waiters[: waiters.index(mine)] if mine in waiters else waiters
    leases = limit.nodes(limit.path, top[0], LEASES)
    return Turn(limit.header(stat.version), leases, before, mine, stat.cversion, marked, unmarked_at)


def woken(limit: Limit, seat: Seat, usual_hold: float | None) -> Grant | None:
    """Take what a place was granted; None if it was not, or is lost, or must be looked at thoroughly."""
    short = usual_hold is not None and usual_hold < _SHORT_HOLD
    held = None if short else _take_at_once(limit, seat)
    for _ in range(_TRIES):
        if held is not None:
            return granted(limit, seat, held)
        seat.wake.clear()
        turn = (glance(limit, seat) if short else None) or look(limit, seat)
        if turn is None:
            limit.known.forget(seat)
            return None
        seat.heard.clear()
        if turn.has_come:
            held = take_turn(limit, seat, turn, briefly=short)
        elif arm(limit, seat, turn):
            return None
    return None


def _take_at_once(limit: Limit, seat: Seat) -> Held | None:
    """Take the turn without a look, if what was heard tells that it has come.

    What is in front of the head of the line only becomes less: nobody gets in between. A lease whose permits stay
    taken after its end changes the header with it, so that this is refused.
    """
    left = sum(permits for path, permits in seat.front.items() if path not in seat.heard)
    header, row = seat.header, seat.row
    if not seat.front or header is None or row is None or content_of(limit.path) in seat.heard:
        return None
    if left + row.node.permits > header.capacity:
        return None
    return line.turn_into_lease(limit, row, seat.request.ttl, header.version)


def take_turn(limit: Limit, seat: Seat, turn: Turn, *, briefly: bool = False) -> Held | None:
    """Make a lease of a place whose turn has come; None if something changed meanwhile.

    `briefly` leaves it the waiter's node for a few seconds, which saves a write, where that may be: `_is_whole`.
    """
    request = seat.request
    row = seat.row or limit.rows([turn.mine]).get(seat.path)
    if row is None:
        return None
    if briefly and not turn.marked and _is_whole(turn, request):
        ends = turn.unmarked_at + min(GRANT_TTL, limit.session.timeout)
        return Held(seat.path, turn.mine.permits, row.token, b"", ends, clock.now(), row)
    return line.turn_into_lease(limit, row, request.ttl, None if turn.marked else turn.header.version)


def _is_whole(turn: Turn, request: AcquireRequest) -> bool:
    """Tell whether a turn may be taken without a write.

    Only of a limit that it takes as a whole, for of others the next in line must see that it went on; and only if its
    ttl is longer than it takes the next in line to notice, and to wait for the end of, what a dead one was granted.
    """
    return turn.mine.permits == turn.header.capacity and request.ttl >= WAITER_TTL


def granted(limit: Limit, seat: Seat, held: Held) -> Grant:
    """Give the place up for the lease."""
    request = seat.request
    # First the lease: an owner without a lease or a place is one that went away.
    limit.known.held[limit.path, request.owner] = held
    limit.known.forget(seat)
    # However long it waited: others have come meanwhile.
    limit.known.busy[limit.path] = clock.now() + BUSY_FOR
    return Grant(request.name, request.owner, held.permits, request.ttl, held.token, held.deadline)


def busy_as_known(limit: Limit, seen: Turn, asked: float, replaced: int | None) -> Busy:
    """Answer from what is known already; the waiter is told in time, and looks for itself now and then."""
    rows = {node.path: limit.known.rows[node.path] for node in seen.leases if node.path in limit.known.rows}
    view = View(seen.header, seen.changes, seen.leases, [*seen.before, seen.mine], [])
    settled = serve(Settled(view, rows, [], [], limit.session.server_time()))
    ahead = settled.waiting.index(seen.mine) if seen.mine in settled.waiting else 0
    return line.busy(settled, ahead, asked, replaced)


def arm(limit: Limit, seat: Seat, turn: Turn) -> bool:
    """Let the place be woken by what can bring its turn; False if that happened already."""
    seat.look_at, seat.front, seat.header = math.inf, {}, turn.header
    if turn.before:
        return _watch_ends(limit, seat, turn.before[-1:])
    if not _watch_header(limit, seat, turn.header):
        return False
    if len(turn.leases) > _WATCHED:
        return _watch_children(limit, seat, turn.changes)
    _note_ends(limit, seat, turn.leases)
    seat.front = {node.path: node.permits for node in turn.leases}
    return _watch_ends(limit, seat, turn.leases)


def _note_ends(limit: Limit, seat: Seat, leases: list[Node]) -> None:
    """Note when the head of the line has to look by itself: a dead holder wakes nobody."""
    rows = limit.rows([node for node in leases if node.path not in limit.known.rows])
    ends = [(rows.get(node.path) or limit.known.rows.get(node.path)) for node in leases]
    until = [each.until for each in ends if each is not None and each.until is not None]
    if until:
        seat.look_at = clock.now() + min(until) - limit.session.server_time() + _MARGIN


def _watch_header(limit: Limit, seat: Seat, header: Header) -> bool:
    watches, session = limit.known.watches, limit.session
    if not watches.add([content_of(limit.path)], seat):
        return True
    try:
        (stat,) = session.ask(session.stat(limit.path, watch=True))
    except BackendUnavailable:
        watches.forget([content_of(limit.path)])
        raise
    same = stat is not None and stat.version == header.version
    if not same:
        watches.heard(limit.path)
    return same


def _watch_ends(limit: Limit, seat: Seat, nodes: list[Node]) -> bool:
    # A watch for children on a node without any: it tells of the node's end, but not of each renewal.
    watches, session = limit.known.watches, limit.session
    fresh = watches.add([node.path for node in nodes], seat)
    if not fresh:
        return True
    try:
        answers = session.ask(*(session.names(path, watch=True) for path in fresh))
    except BackendUnavailable:
        watches.forget(fresh)
        raise
    gone = [path for path, answer in zip(fresh, answers, strict=True) if missing(answer)]
    for path in gone:
        watches.heard(path)
    return not gone


def _watch_children(limit: Limit, seat: Seat, changes: int) -> bool:
    watches, session = limit.known.watches, limit.session
    if not watches.add([limit.path], seat):
        return True
    try:
        (answer,) = session.ask(session.names(limit.path, watch=True))
    except BackendUnavailable:
        watches.forget([limit.path])
        raise
    same = not missing(answer) and answer[1].cversion == changes
    if not same:
        watches.heard(limit.path)
    return same
