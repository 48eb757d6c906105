"""The backend's steps."""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Sequence

from tasklocks import clock
from tasklocks.backends.base import HOLD_WEIGHT, moving_average
from tasklocks.backends.zookeeper import line
from tasklocks.backends.zookeeper.known import Held, Known, Seat
from tasklocks.backends.zookeeper.limit import Limit, Settled
from tasklocks.backends.zookeeper.nodes import (
    GRANTED,
    KEPT,
    LEASE,
    LEASES,
    Header,
    Node,
    Row,
    digest,
    in_order,
    node_name,
    prefix_node,
    read,
    written,
)
from tasklocks.backends.zookeeper.session import BadVersionError, Session, failure, missing
from tasklocks.backends.zookeeper.url import read_url
from tasklocks.errors import BackendUnavailable
from tasklocks.fork import PerProcess
from tasklocks.types import AcquireRequest, Busy, Capabilities, Grant, LimitState, Waiter

__all__ = ["ZooKeeperBackend"]

_TRIES = 30
_SAME_HOLD = 0.01  # seconds by which the usual hold may be off before somebody writes it down


class _Process:
    """What belongs to one process."""

    def __init__(self, make: object) -> None:
        self.known = Known()
        self.session: Session = make(self.known)  # type: ignore[operator]


class Listener:
    """Wakes one waiter when its turn may have come, and takes what it was granted."""

    address = "zookeeper"

    def __init__(self, backend: ZooKeeperBackend, owner: str) -> None:
        self._backend = backend
        self._owner = owner

    def wait(self, timeout: float, since: Busy) -> Grant | None:
        """See `Listener.wait` of the protocol."""
        seat = self._backend.seat_of(self._owner)
        if seat is None:
            clock.pause(timeout)
            return None
        deadline = clock.now() + timeout
        while seat.wake.wait(max(0.0, deadline - clock.now())):
            seat.wake.clear()
            with contextlib.suppress(BackendUnavailable):
                answer = self._backend.acquire(seat.request)
                if isinstance(answer, Grant):
                    return answer
        return None

    def close(self) -> None:
        """Do nothing: a seat is given up by its release."""


class ZooKeeperBackend:
    """Limits in a ZooKeeper ensemble.

    Args:
        url: `zookeeper://user:password@h1:2181,h2:2181/chroot`.
        prefix: two applications with two prefixes in one ensemble never meet.
        options: see `tasklocks.backends.zookeeper.url`; also as `?session_timeout=9` in the URL.

    Raises:
        ConfigurationError: no host or an unknown option.
    """

    capabilities = Capabilities(push=True, server_clock=True, strict_order=True, multi_host=True, min_ttl=0.4)
    listening = True

    def __init__(self, url: str, *, prefix: str = "tasklocks", **options: object) -> None:
        self._settings = read_url(url, options)
        self._root = f"{self._settings.chroot}/{prefix_node(prefix)}"
        self._process = PerProcess(lambda: _Process(self._connected))
        weakref.finalize(self, _close, self._process)

    def __repr__(self) -> str:
        return f"ZooKeeperBackend('zookeeper://{self._settings.hosts}{self._settings.chroot}')"

    def acquire(self, request: AcquireRequest) -> Grant | Busy:
        """See `Backend.acquire`."""
        limit = self._limit(request.name)
        for _ in range(_TRIES):
            answer = self._acquire(limit, request)
            if answer is not None:
                return answer
        raise BackendUnavailable(f"{self!r}: the limit {request.name!r} changes faster than it can be read")

    def renew(self, grants: Sequence[Grant]) -> Sequence[Grant | None]:
        """See `Backend.renew`."""
        asked = clock.now()
        limits = {grant.name: self._limit(grant.name) for grant in grants}
        answers = _renewed([(limits[grant.name], grant) for grant in grants], asked)
        for limit in limits.values():
            _serve(limit)
        return answers

    def release(self, name: str, owner: str, keep: float = 0.0) -> bool:
        """See `Backend.release`."""
        limit = self._limit(name)
        key = (limit.path, owner)
        seat = limit.known.seats.pop(key, None)
        if seat is not None:
            return _leave(limit, seat, keep)
        held = limit.known.held.pop(key, None) or _found(limit, owner)
        return held is not None and _release(limit, held, owner, keep)

    def force_release(self, name: str, owner: str | None = None) -> int:
        """See `Backend.force_release`."""
        limit = self._limit(name)
        settled = limit.settle()
        if settled is None:
            return 0
        doomed = [
            node for node in (*settled.view.leases, *settled.granted) if owner is None or node.digest == digest(owner)
        ]
        answers = limit.session.ask(*(limit.session.delete(node.path) for node in doomed)) if doomed else []
        _serve(limit)
        return sum(1 for answer in answers if answer is True)

    def inspect(self, name: str) -> LimitState:
        """See `Backend.inspect`."""
        limit = self._limit(name)
        return _inspected(limit)

    def listen(self, owner: str) -> Listener:
        """See `Backend.listen`."""
        return Listener(self, owner)

    def close(self) -> None:
        """See `Backend.close`."""
        _close(self._process)

    def seat_of(self, owner: str) -> Seat | None:
        """Return where `owner` waits."""
        seats = list(self._process().known.seats.values())
        return next((seat for seat in seats if seat.request.owner == owner), None)

    def _connected(self, known: Known) -> Session:
        return Session(self._settings, self._root, lambda path: _heard(known, path))

    def _limit(self, name: str) -> Limit:
        process = self._process()
        if not process.session.usable:
            _close(self._process)
            process = self._process()
        return Limit(process.session, process.known, name)

    def _acquire(self, limit: Limit, request: AcquireRequest) -> Grant | Busy | None:
        """Try once; None if something changed meanwhile."""
        key = (limit.path, request.owner)
        if (held := limit.known.held.get(key)) is not None and clock.now() < held.deadline:
            return _extended(limit, request, held)
        if (seat := limit.known.seats.get(key)) is not None:
            return _ask_again(limit, request, seat)
        return _newcomer(limit, request)


def _heard(known: Known, path: str | None) -> None:
    known.watches.heard(path)
    if path is not None:
        known.watches.heard(f"{path} header")


def _close(processes: PerProcess[_Process]) -> None:
    if (process := processes.take()) is not None:
        process.session.close()


def _newcomer(limit: Limit, request: AcquireRequest) -> Grant | Busy | None:
    session, asked = limit.session, clock.now()
    content = written(request.owner, request.ttl, request.info)
    name = node_name(LEASE, request.permits, digest(request.owner))
    created, listed = session.ask(
        session.create(f"{limit.path}/{name}", content, sequence=True), session.names(limit.path)
    )
    if missing(created):
        limit.make(request.capacity)
        return None
    path, stat = created
    session.note_time(stat.ctime)
    mine = read(limit.path, path.rpartition("/")[2])
    assert mine is not None  # noqa: S101
    held = Held(path, request.permits, session.token(stat.czxid), content, asked + request.ttl, clock.now())
    header = limit.header(listed[1].version)
    leases = limit.nodes(limit.path, listed[0], LEASES)
    plain = header.capacity == request.capacity and "q" not in listed[0] and "a" not in listed[0]
    if plain and _twin(leases, mine) is None and _in_front(leases, mine) + request.permits <= header.capacity:
        limit.known.held[limit.path, request.owner] = held
        return _granted(request, held)
    return _look_closer(limit, request, held, mine, asked)


def _look_closer(limit: Limit, request: AcquireRequest, held: Held, mine: Node, asked: float) -> Grant | Busy | None:
    session = limit.session
    changed = limit.state_capacity(request.capacity)
    settled = limit.settle(without=mine)
    if settled is None:
        return None
    twin = _twin([*settled.view.leases, *settled.view.line], mine)
    if twin is not None:
        session.send(session.delete(mine.path))
        return _twin_found(limit, request, twin, settled)
    leases = in_order([*settled.view.leases, mine])
    taken = _in_front(leases, mine) + sum(node.permits for node in settled.granted)
    if not settled.waiting and taken + request.permits <= request.capacity:
        limit.known.held[limit.path, request.owner] = held
        if request.place is not None and settled.view.away:
            line.leave_away(limit, request.place.ticket)
        return _granted(request, held, changed)
    return _refused(limit, request, settled, mine, asked, changed)


def _refused(
    limit: Limit, request: AcquireRequest, settled: Settled, mine: Node, asked: float, changed: int | None
) -> Grant | Busy | None:
    session, place = limit.session, request.place
    if place is not None and place.address is not None:
        seat = line.take_seat(limit, request, place, mine)
        answer = None if seat is None else _ask_again(limit, request, seat)
        return answer and dataclasses.replace(answer, capacity_was=changed)
    session.send(session.delete(mine.path))
    ahead = line.in_line(settled) if place is None else line.take_away_place(limit, request, place, settled)
    return line.busy(limit, settled, ahead, asked, changed)


def _ask_again(limit: Limit, request: AcquireRequest, seat: Seat) -> Grant | Busy | None:
    asked = clock.now()
    if request.place is not None:
        seat.request, seat.until = request, asked + request.place.keep
    changed = limit.state_capacity(request.capacity)
    node = read(limit.queue, seat.path.rpartition("/")[2])
    settled = limit.settle(served=node)
    if settled is None or node not in settled.view.line:
        limit.known.seats.pop((limit.path, request.owner), None)
        limit.known.watches.leave(seat)
        return None
    if node in settled.granted:
        grant = line.claim(limit, seat, settled)
        return grant and dataclasses.replace(grant, capacity_was=changed)
    if not line.watch(limit, seat, settled):
        return None
    return line.busy(limit, settled, settled.waiting.index(node), asked, changed)


def _twin_found(limit: Limit, request: AcquireRequest, twin: Node, settled: Settled) -> Grant | None:
    """Take over what the owner has already, from another process or an attempt whose answer was lost."""
    row = settled.rows.get(twin.path) or limit.rows([twin]).get(twin.path)
    if row is None or twin.kind not in (LEASE, GRANTED):
        return None
    limit.known.held[limit.path, request.owner] = _held(row, settled.now)
    return None


def _held(row: Row, server_time: float) -> Held:
    now = clock.now()
    content = written(row.owner, row.ttl, row.info, **({"token": row.token} if row.node.kind == GRANTED else {}))
    return Held(
        row.node.path, row.node.permits, row.token, content, now + (row.until or server_time) - server_time, now
    )


def _extended(limit: Limit, request: AcquireRequest, held: Held) -> Grant | None:
    session, asked = limit.session, clock.now()
    content = written(request.owner, request.ttl, request.info, token=held.token)
    (answer,) = session.ask(session.write(held.path, content))
    if missing(answer):
        limit.known.held.pop((limit.path, request.owner), None)
        return None
    _stamped(limit, held, content, answer, asked + request.ttl)
    return _granted(request, held, limit.state_capacity(request.capacity))


def _stamped(limit: Limit, held: Held, content: bytes, stat: object, deadline: float) -> None:
    limit.session.note_time(stat.mtime)  # type: ignore[attr-defined]
    limit.known.rows.pop(held.path, None)
    held.content, held.deadline = content, deadline


def _granted(request: AcquireRequest, held: Held, changed: int | None = None) -> Grant:
    return Grant(request.name, request.owner, held.permits, request.ttl, held.token, held.deadline, changed)


def _twin(nodes: Sequence[Node], mine: Node) -> Node | None:
    kinds = (LEASE, GRANTED, "w")
    return next((node for node in nodes if node.digest == mine.digest and node != mine and node.kind in kinds), None)


def _in_front(leases: Sequence[Node], mine: Node) -> int:
    """Return the permits that are taken before `mine` counts; `leases` are in order.

    A lease that came after it, taken by one who did not wait, has counted it. All others came with a right of their own.
    """
    later = leases[leases.index(mine) :]
    return sum(node.permits for node in leases if node not in later or node.kind != LEASE)


def _renewed(wanted: Sequence[tuple[Limit, Grant]], asked: float) -> list[Grant | None]:
    found = [limit.known.held.get((limit.path, grant.owner)) or _found(limit, grant.owner) for limit, grant in wanted]
    writes = []
    for (limit, grant), held in zip(wanted, found, strict=True):
        if held is not None and held.token == grant.fencing_token:
            info = limit.known
            writes.append((limit, grant, held, info))
    if not writes:
        return [None] * len(wanted)
    session = wanted[0][0].session
    answers = session.ask(*(session.write(held.path, held.content) for _, _, held, _ in writes))
    renewed: dict[tuple[str, str], Grant] = {}
    for (limit, grant, held, _), answer in zip(writes, answers, strict=True):
        key = (limit.path, grant.owner)
        if missing(answer):
            limit.known.held.pop(key, None)
            continue
        _stamped(limit, held, held.content, answer, asked + grant.ttl)
        renewed[key] = Grant(grant.name, grant.owner, held.permits, grant.ttl, held.token, held.deadline)
    return [renewed.get((limit.path, grant.owner)) for limit, grant in wanted]


def _found(limit: Limit, owner: str) -> Held | None:
    """Find a lease that another process took."""
    settled = limit.settle()
    who = digest(owner)
    for node in () if settled is None else (*settled.view.leases, *settled.granted):
        if node.digest == who and node.kind != KEPT:
            row = limit.rows([node]).get(node.path)
            return None if row is None else _held(row, settled.now)
    return None


def _serve(limit: Limit) -> None:
    """Hand on what is free, if anyone waits."""
    session = limit.session
    (listed,) = session.ask(session.names(limit.path))
    if not missing(listed) and "q" in listed[0]:
        limit.settle()


def _leave(limit: Limit, seat: Seat, keep: float) -> bool:
    session = limit.session
    limit.known.watches.leave(seat)
    settled = limit.settle()
    node = read(limit.queue, seat.path.rpartition("/")[2])
    (answer,) = session.ask(session.delete(seat.path))
    return answer is True and settled is not None and node in settled.granted


def _release(limit: Limit, held: Held, owner: str, keep: float) -> bool:
    limit.known.rows.pop(held.path, None)
    in_time = clock.now() < held.deadline
    (answer,) = limit.session.ask(_keeping(limit, held, owner, keep) if keep > 0 else _ending(limit, held))
    if isinstance(failure(answer), BadVersionError):
        # Only what the header says of the usual hold is out of date.
        (answer,) = limit.session.ask(limit.session.delete(held.path))
    return failure(answer) is None and in_time


def _keeping(limit: Limit, held: Held, owner: str, keep: float) -> object:
    """Replace the lease by one that nobody can use and that ends `keep` seconds from now."""
    session = limit.session
    name = node_name(KEPT, held.permits, digest(owner))
    content = written(owner, keep, "", token=held.token)
    return session.together(session.delete(held.path), session.part(f"{limit.path}/{name}", content, sequence=True))


def _ending(limit: Limit, held: Held) -> object:
    session = limit.session
    header = limit.known.headers.get(limit.path)
    if header is None:
        return session.delete(held.path)
    hold = moving_average(header.usual_hold, clock.now() - held.since)
    was = header.usual_hold
    if was is not None and abs(hold - was) <= max(_SAME_HOLD, was * HOLD_WEIGHT / 2):
        return session.delete(held.path)
    return session.together(
        session.delete(held.path), _header_write(limit, dataclasses.replace(header, usual_hold=hold))
    )


def _header_write(limit: Limit, header: Header) -> object:
    from tasklocks.backends.zookeeper.nodes import written_header

    content = written_header(limit.name, header.capacity, header.usual_hold)
    return limit.session.write(limit.path, content, header.version)


def _inspected(limit: Limit) -> LimitState:
    view = limit.view()
    if view is None:
        header = limit.known.headers.get(limit.path, Header(0, None, 0))
        return LimitState(limit.name, header.capacity, (), (), header.usual_hold)
    now = limit.session.server_time()
    rows = limit.rows([*view.leases, *view.line, *view.away])
    view.leases = [node for node in view.leases if node.path in rows and _live(rows[node.path], now)]
    view.line = [node for node in view.line if node.path in rows and _live(rows[node.path], now)]
    settled = Settled(view, rows, [], [], now)
    limit._served(settled)
    waiters = [_waiter(rows[node.path], listening=True) for node in settled.waiting]
    for node in limit._present(view.away, now):
        if node.path in rows:
            waiters.append(_waiter(rows[node.path], listening=False))
    header = view.header
    holders = tuple(line.holder(settled, row) for row in settled.holders())
    return LimitState(limit.name, header.capacity, holders, tuple(waiters), header.usual_hold)


def _live(row: Row, now: float) -> bool:
    return row.until is None or row.until > now


def _waiter(row: Row, *, listening: bool) -> Waiter:
    since = row.since if listening else int(row.node.digest.split(".")[2]) / 1000
    return Waiter(row.owner, row.node.permits, since, listening, row.info)
