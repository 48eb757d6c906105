"""`memory://`: limits of one process, for tests, scripts and threads.

Does not guarantee: anything between processes, or after the process ends. The steps here are the plain statement
of what every backend does; the others do the same in their store's own language.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tasklocks import clock
from tasklocks.backends.base import (
    GRANT_TTL,
    HOLDERS_SHOWN,
    RETENTION,
    Change,
    ReservesByUpdate,
    moving_average,
)
from tasklocks.fork import PerProcess
from tasklocks.types import AcquireRequest, Busy, Capabilities, Grant, Holder, LimitState, Place, Waiter

__all__ = ["MemoryBackend"]

_PRUNE_EVERY = 1000

T = TypeVar("T")


@dataclass(slots=True)
class _Lease:
    permits: int
    token: int
    since: float
    expires: float
    info: str
    closed: bool = False


@dataclass(slots=True)
class _Waiting:
    request: AcquireRequest
    since: float
    until: float


@dataclass(slots=True)
class _Limit:
    capacity: int = 0
    token: int = 0
    usual_hold: float | None = None
    used_at: float = 0.0
    leases: dict[str, _Lease] = field(default_factory=dict)
    queue: dict[str, _Waiting] = field(default_factory=dict)
    away: dict[str, _Waiting] = field(default_factory=dict)

    def free(self) -> int:
        return self.capacity - sum(lease.permits for lease in self.leases.values())

    def grant(self, request: AcquireRequest, now: float, ttl: float) -> _Lease:
        self.token = max(self.token + 1, time.time_ns() // 1000)
        lease = _Lease(request.permits, self.token, time.time(), now + ttl, request.info)
        self.leases[request.owner] = lease
        if request.place is not None:
            self.away.pop(request.place.ticket, None)
        return lease

    def settle(self, now: float) -> list[str]:
        """Drop what is over, grant to the head of the line; return who was granted."""
        self.leases = {owner: lease for owner, lease in self.leases.items() if lease.expires > now}
        self.queue = {owner: each for owner, each in self.queue.items() if each.until > now}
        self.away = {ticket: each for ticket, each in self.away.items() if each.until > now}
        granted = []
        while self.queue:
            owner, head = next(iter(self.queue.items()))
            if head.request.permits > self.free():
                break
            del self.queue[owner]
            self.grant(head.request, now, min(head.request.ttl, GRANT_TTL))
            granted.append(owner)
        return granted

    def idle_since(self, now: float) -> float:
        # Not whether there are any: nobody drops what ends on a limit that is not asked for again.
        ends = [each.expires for each in self.leases.values()]
        ends += [each.until for line in (self.queue, self.away) for each in line.values()]
        return now - max([self.used_at, *ends])


class _Listener:
    """Wakes a waiter of this process by an event."""

    def __init__(self, close: Callable[[], None]) -> None:
        self.address = ""
        self.event = threading.Event()
        self._close = close

    def wait(self, timeout: float, since: Busy) -> Grant | None:
        self.event.wait(timeout)
        self.event.clear()
        return None

    def close(self) -> None:
        self._close()


class _Store:
    """The limits of one process and who listens."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.limits: dict[str, _Limit] = {}
        self.listeners: dict[str, _Listener] = {}
        self.texts: dict[str, tuple[str, float]] = {}
        self.steps = 0

    def settled(self, name: str, now: float) -> _Limit:
        """Return the limit, settled, with the waiters that were granted woken."""
        limit = self.limits.setdefault(name, _Limit())
        limit.used_at = now
        self.wake(limit.settle(now))
        self.steps += 1
        if self.steps % _PRUNE_EVERY == 0:
            self.limits = {key: each for key, each in self.limits.items() if each.idle_since(now) < RETENTION}
            self.texts = {key: each for key, each in self.texts.items() if each[1] > time.time()}
        return limit

    def wake(self, owners: Sequence[str]) -> None:
        for owner in owners:
            if listener := self.listeners.get(owner):
                listener.event.set()


class MemoryBackend(ReservesByUpdate):
    """Limits in the memory of this process; a forked child starts with none."""

    capabilities = Capabilities(push=True, server_clock=False, strict_order=True, multi_host=False)
    listening = True

    def __init__(self, url: str = "memory://", **options: object) -> None:
        self._store = PerProcess(_Store)

    def __repr__(self) -> str:
        return "MemoryBackend()"

    def acquire(self, request: AcquireRequest) -> Grant | Busy:
        """See `Backend.acquire`."""
        store, now = self._store(), clock.now()
        with store.lock:
            limit = store.limits.setdefault(request.name, _Limit())
            changed = None if limit.capacity in (0, request.capacity) else limit.capacity
            limit.capacity = request.capacity
            store.settled(request.name, now)
            lease = limit.leases.get(request.owner)
            if lease is not None and not lease.closed:
                lease.expires = now + request.ttl
                return _granted(request, lease, changed)
            if not limit.queue and request.permits <= limit.free() and lease is None:
                return _granted(request, limit.grant(request, now, request.ttl), changed)
            ahead = _take_place(limit, request, now)
            return _busy(limit, ahead, now, changed)

    def renew(self, grants: Sequence[Grant]) -> Sequence[Grant | None]:
        """See `Backend.renew`."""
        store, now = self._store(), clock.now()
        with store.lock:
            return [_renewed(store.settled(grant.name, now), grant, now) for grant in grants]

    def release(self, name: str, owner: str, keep: float = 0.0) -> bool:
        """See `Backend.release`."""
        store, now = self._store(), clock.now()
        with store.lock:
            limit = store.settled(name, now)
            limit.queue.pop(owner, None)
            lease = limit.leases.get(owner)
            ended = lease is not None and not lease.closed
            if lease is not None and ended:
                limit.usual_hold = moving_average(limit.usual_hold, time.time() - lease.since)
                lease.closed, lease.expires = True, now + keep
            store.settled(name, now)
            return ended

    def force_release(self, name: str, owner: str | None = None) -> int:
        """See `Backend.force_release`."""
        store, now = self._store(), clock.now()
        with store.lock:
            limit = store.settled(name, now)
            doomed = [each for each in limit.leases if owner in (None, each)]
            for each in doomed:
                del limit.leases[each]
            store.settled(name, now)
            return len(doomed)

    def inspect(self, name: str) -> LimitState:
        """See `Backend.inspect`."""
        store, now = self._store(), clock.now()
        with store.lock:
            limit = store.limits.get(name) or _Limit()
            waiters = [*limit.queue.items(), *limit.away.items()]
            return LimitState(
                name,
                limit.capacity,
                _holders(limit, now),
                tuple(_waiter(ticket, each) for ticket, each in waiters if each.until > now),
                limit.usual_hold,
            )

    def update(self, name: str, change: Change[T]) -> T:
        """See `Backend.update`."""
        store, now = self._store(), time.time()
        with store.lock:
            text, until = store.texts.get(name, ("", 0.0))
            text = text if until > now else ""
            new, keep, answer = change(text, now)
            if new != text:
                store.texts[name] = new, now + keep
            return answer

    def listen(self, owner: str) -> _Listener:
        """See `Backend.listen`."""
        store = self._store()
        listener = _Listener(lambda: _discard(store.listeners, owner))
        store.listeners[owner] = listener
        return listener

    def close(self) -> None:
        """Do nothing: there are no connections, and the limits live as long as the process."""


def _take_place(limit: _Limit, request: AcquireRequest, now: float) -> int:
    """Enter or refresh the place that the request asks for; return how many are in front."""
    place = request.place
    if place is None:
        return len(limit.queue) + len(limit.away)
    line = limit.away if place.address is None else limit.queue
    seat = line.setdefault(place.ticket, _Waiting(request, time.time(), 0.0))
    seat.request, seat.until = request, now + place.keep
    in_front = list(line).index(place.ticket)
    return in_front if line is limit.queue else len(limit.queue) + in_front


def _granted(request: AcquireRequest, lease: _Lease, changed: int | None) -> Grant:
    return Grant(
        request.name,
        request.owner,
        lease.permits,
        request.ttl,
        lease.token,
        lease.expires,
        capacity_was=changed,
    )


def _busy(limit: _Limit, ahead: int, now: float, changed: int | None) -> Busy:
    ends = [lease.expires - now for lease in limit.leases.values()]
    return Busy(
        retry_after=min(ends, default=None),
        ahead=ahead,
        holders=_holders(limit, now)[:HOLDERS_SHOWN],
        capacity=limit.capacity,
        usual_hold=limit.usual_hold,
        server_time=time.time(),
        asked_at=now,
        capacity_was=changed,
    )


def _renewed(limit: _Limit, grant: Grant, now: float) -> Grant | None:
    lease = limit.leases.get(grant.owner)
    if lease is None or lease.closed:
        return None
    lease.expires = now + grant.ttl
    return Grant(grant.name, grant.owner, lease.permits, grant.ttl, lease.token, lease.expires)


def _holders(limit: _Limit, now: float) -> tuple[Holder, ...]:
    return tuple(
        Holder(owner, lease.permits, lease.token, lease.since, lease.expires - now, lease.info)
        for owner, lease in limit.leases.items()
        if lease.expires > now
    )


def _waiter(ticket: str, seat: _Waiting) -> Waiter:
    place: Place | None = seat.request.place
    listening = place is not None and place.address is not None
    return Waiter(ticket, seat.request.permits, seat.since, listening, seat.request.info)


def _discard(listeners: dict[str, _Listener], owner: str) -> None:
    listeners.pop(owner, None)
