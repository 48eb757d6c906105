"""`memory://`: limits of one process, for tests, scripts and threads.

Does not guarantee: anything between processes, or after the process ends. The steps here are the plain statement
of what every backend does; the others do the same in their store's own language.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from heapq import nsmallest
from typing import TypeVar

from tasklocks import clock
from tasklocks.backends._memory_limit import Lease, Limit, Waiting
from tasklocks.backends.base import HOLDERS_SHOWN, RETENTION, Change, ReservesByUpdate, moving_average
from tasklocks.backends.paging import page
from tasklocks.backends.several import Slots, reserving, taken
from tasklocks.fork import PerProcess
from tasklocks.types import (
    AcquireRequest,
    Busy,
    Capabilities,
    Grant,
    Holder,
    LimitState,
    Page,
    Place,
    Refused,
    ReserveRequest,
    Taken,
    Waiter,
)

__all__ = ["MemoryBackend"]

_PRUNE_EVERY = 1000

T = TypeVar("T")


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
        self.limits: dict[str, Limit] = {}
        self.listeners: dict[str, _Listener] = {}
        self.texts: dict[str, tuple[str, float]] = {}
        self.steps = 0

    def settled(self, name: str, now: float) -> Limit:
        """Return the limit, settled, with the waiters that were granted woken."""
        limit = self.limits.setdefault(name, Limit())
        limit.used_at = now
        self.wake(limit.settle(now))
        self.steps += 1
        if self.steps % _PRUNE_EVERY == 0:
            self.limits = {key: each for key, each in self.limits.items() if each.idle_since(now) < RETENTION}
            self.texts = {key: each for key, each in self.texts.items() if each[1] > time.time()}
        return limit

    def text(self, name: str, now: float) -> str:
        text, until = self.texts.get(name, ("", 0.0))
        return text if until > now else ""

    def wake(self, owners: Sequence[str]) -> None:
        for owner in owners:
            if listener := self.listeners.get(owner):
                listener.event.set()


class MemoryBackend(ReservesByUpdate):
    """Limits in the memory of this process; a forked child starts with none."""

    capabilities = Capabilities(push=True, server_clock=False, strict_order=True, multi_host=False, together=True)
    listening = True

    def __init__(self, url: str = "memory://", **options: object) -> None:
        self._store = PerProcess(_Store)

    def __repr__(self) -> str:
        return "MemoryBackend()"

    def acquire(self, request: AcquireRequest) -> Grant | Busy:
        """See `Backend.acquire`."""
        store = self._store()
        with store.lock:
            answer = _acquire(store, request)
            assert answer is not None  # noqa: S101 - it is told to grant
            return answer

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
            return _state(name, store.limits.get(name) or Limit(), now)

    def page(self, after: str = "", most: int = 200) -> Page:
        """See `Backend.page`."""
        store, now = self._store(), clock.now()
        with store.lock:
            texts = {name: text for name, (text, until) in store.texts.items() if until > time.time()}
            return page(
                after,
                most,
                lambda name, some: [
                    _state(each, store.limits[each], now) for each in _behind(store.limits, name, some)
                ],
                lambda name, some: [(each, texts[each]) for each in _behind(texts, name, some)],
            )

    def update(self, name: str, change: Change[T]) -> T:
        """See `Backend.update`."""
        store, now = self._store(), time.time()
        with store.lock:
            text = store.text(name, now)
            new, keep, answer = change(text, now)
            if new != text:
                store.texts[name] = new, now + keep
            return answer

    def reserve_all(self, requests: Sequence[ReserveRequest]) -> Slots | Refused:
        """See `Backend.reserve_all`."""
        store = self._store()
        with store.lock:
            return _reserve_all(store, requests)

    def take_all(
        self, request: AcquireRequest, rates: Sequence[ReserveRequest], within: float
    ) -> Taken | Busy | Refused:
        """See `Backend.take_all`."""
        store = self._store()
        with store.lock:
            return taken(lambda begins: _acquire(store, request, begins), lambda: _reserve_all(store, rates), within)

    def listen(self, owner: str) -> _Listener:
        """See `Backend.listen`."""
        store = self._store()
        listener = _Listener(lambda: _discard(store.listeners, owner))
        store.listeners[owner] = listener
        return listener

    def close(self) -> None:
        """Do nothing: there are no connections, and the limits live as long as the process."""


def _acquire(store: _Store, request: AcquireRequest, begins: Callable[[], bool] = lambda: True) -> Grant | Busy | None:
    """Do as `Backend.acquire`, but ask `begins` before a grant; None: it said no."""
    now = clock.now()
    limit = store.limits.setdefault(request.name, Limit())
    changed = None if limit.capacity in (0, request.capacity) else limit.capacity
    limit.capacity = request.capacity
    store.settled(request.name, now)
    lease = limit.leases.get(request.owner)
    if lease is not None and not lease.closed:
        begins()
        lease.expires = now + request.ttl
        return _granted(request, lease, changed)
    if lease is not None or request.permits > limit.free() or limit.is_behind(request):
        return _busy(limit, limit.take_place(request, now), now, changed)
    if request.place is not None:
        limit.away.pop(request.place.ticket, None)
    return _granted(request, limit.grant(request, now, request.ttl), changed) if begins() else None


def _reserve_all(store: _Store, requests: Sequence[ReserveRequest]) -> Slots | Refused:
    now = time.time()
    texts = [store.text(request.name, now) for request in requests]
    new, keep, answer = reserving(requests, RETENTION)(texts, now)
    if isinstance(answer, tuple):
        store.texts.update((each.name, (text, now + keep)) for each, text in zip(requests, new, strict=True))
    return answer


def _granted(request: AcquireRequest, lease: Lease, changed: int | None) -> Grant:
    return Grant(
        request.name,
        request.owner,
        lease.permits,
        request.ttl,
        lease.token,
        lease.expires,
        capacity_was=changed,
    )


def _busy(limit: Limit, ahead: int, now: float, changed: int | None) -> Busy:
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


def _renewed(limit: Limit, grant: Grant, now: float) -> Grant | None:
    lease = limit.leases.get(grant.owner)
    if lease is None or lease.closed:
        return None
    lease.expires = now + grant.ttl
    return Grant(grant.name, grant.owner, lease.permits, grant.ttl, lease.token, lease.expires)


def _holders(limit: Limit, now: float) -> tuple[Holder, ...]:
    return tuple(
        Holder(owner, lease.permits, lease.token, lease.since, lease.expires - now, lease.info)
        for owner, lease in limit.leases.items()
        if lease.expires > now
    )


def _waiter(ticket: str, seat: Waiting) -> Waiter:
    place: Place | None = seat.request.place
    listening = place is not None and place.address is not None
    return Waiter(ticket, seat.request.permits, seat.since, listening, seat.request.info)


def _state(name: str, limit: Limit, now: float) -> LimitState:
    seats = [*limit.queue.items(), *limit.away.items()]
    waiters = tuple(_waiter(ticket, each) for ticket, each in seats if each.until > now)
    return LimitState(name, limit.capacity, _holders(limit, now), waiters, limit.usual_hold)


def _behind(names: Iterable[str], name: str, most: int) -> list[str]:
    return nsmallest(most, (each for each in names if each > name))


def _discard(listeners: dict[str, _Listener], owner: str) -> None:
    listeners.pop(owner, None)
