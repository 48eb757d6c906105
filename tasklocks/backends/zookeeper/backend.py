"""The backend: which step is whose, and what belongs to one process."""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Sequence
from typing import TypeVar

from tasklocks import clock
from tasklocks.backends.base import Change, ReservesByUpdate
from tasklocks.backends.zookeeper import keeping, listing, pruning, texts, turn
from tasklocks.backends.zookeeper.known import Known, Seat
from tasklocks.backends.zookeeper.limit import Limit
from tasklocks.backends.zookeeper.nodes import digest, prefix_node
from tasklocks.backends.zookeeper.session import Session
from tasklocks.backends.zookeeper.taking import Wish, take
from tasklocks.backends.zookeeper.url import Settings, read_url
from tasklocks.errors import BackendUnavailable
from tasklocks.fork import PerProcess
from tasklocks.types import AcquireRequest, Busy, Capabilities, Grant, LimitState, Page

__all__ = ["ZooKeeperBackend"]

_TRIES = 30
_STEPS = 200  # of a process, after which it looks after limits of others

T = TypeVar("T")


class _Process:
    """What belongs to one process: its session, and what it knows."""

    def __init__(self, settings: Settings, root: str) -> None:
        self.known = Known()
        self.steps = itertools.count(1)
        self.session = Session(settings, root, self.known.watches.heard)

    def limit(self, name: str) -> Limit:
        return Limit(self.session, self.known, name)


class Listener:
    """Wakes one waiter when its turn may have come, and takes what it was granted."""

    address = "zookeeper"

    def __init__(self, backend: ZooKeeperBackend, owner: str) -> None:
        self._backend = backend
        self._owner = owner

    def wait(self, timeout: float, since: Busy) -> Grant | None:
        """See `Listener.wait` of the protocol."""
        deadline = clock.now() + timeout
        seat = self._backend.seat_of(self._owner)
        if seat is None:
            clock.pause(timeout)
            return None
        while seat.wake.wait(max(0.0, min(deadline, seat.look_at) - clock.now())):
            try:
                grant = self._backend.woken(seat, since)
            except BackendUnavailable:
                return None
            if grant is not None or self._backend.seat_of(self._owner) is not seat:
                return grant
        return None

    def close(self) -> None:
        """Do nothing: a place is given up by its release."""


class ZooKeeperBackend(ReservesByUpdate):
    """Limits in a ZooKeeper ensemble.

    Args:
        url: `zookeeper://user:password@h1:2181,h2:2181/chroot`.
        prefix: two applications with two prefixes in one ensemble never meet.
        options: see `tasklocks.backends.zookeeper.url`; also as `?session_timeout=9` in the URL.

    Raises:
        ConfigurationError: no host or an unknown option.
    """

    capabilities = Capabilities(
        push=True, server_clock=True, strict_order=True, multi_host=True, min_ttl=0.4, by_since=False
    )
    listening = True

    def __init__(self, url: str, *, prefix: str = "tasklocks", **options: object) -> None:
        settings = read_url(url, options)
        root = f"{settings.chroot}/{prefix_node(prefix)}"
        self._shown = f"ZooKeeperBackend('zookeeper://{settings.hosts}{settings.chroot}')"
        self._process = PerProcess(lambda: _Process(settings, root))
        # Also when it is dropped without `close`, and at the end of the process: what it has in line goes at once.
        weakref.finalize(self, _close, self._process)

    def __repr__(self) -> str:
        return self._shown

    def acquire(self, request: AcquireRequest) -> Grant | Busy:
        """See `Backend.acquire`."""
        wish = Wish(self._limit(request.name), request, clock.now())
        asking, who = wish.limit.known.asking, (wish.limit.path, digest(request.owner))
        asking.append(who)
        try:
            if wish.limit.known.strays:
                keeping.take_back_strays(wish.limit.known, mine=who)
            for _ in range(_TRIES):
                answer = take(wish)
                if answer is not None:
                    return answer
        finally:
            asking.remove(who)
        raise BackendUnavailable(f"{self!r}: the limit {request.name!r} changes faster than it can be read")

    def renew(self, grants: Sequence[Grant]) -> Sequence[Grant | None]:
        """See `Backend.renew`."""
        return keeping.renew([(self._limit(grant.name), grant) for grant in grants])

    def release(self, name: str, owner: str, keep: float = 0.0) -> bool:
        """See `Backend.release`."""
        limit = self._limit(name)
        seat = limit.known.seats.get((limit.path, owner))
        return keeping.release(limit, owner, keep) if seat is None else keeping.leave(limit, seat)

    def force_release(self, name: str, owner: str | None = None) -> int:
        """See `Backend.force_release`."""
        return keeping.force_release(self._limit(name), owner)

    def inspect(self, name: str) -> LimitState:
        """See `Backend.inspect`."""
        return keeping.inspect(self._limit(name))

    def page(self, after: str = "", most: int = 200) -> Page:
        """See `Backend.page`."""
        return listing.page(self._usable().session, self.inspect, after, most)

    def update(self, name: str, change: Change[T]) -> T:
        """See `Backend.update`."""
        return texts.update(self._limit(name).session, name, change)

    def listen(self, owner: str) -> Listener:
        """See `Backend.listen`."""
        return Listener(self, owner)

    def version(self) -> str:
        """See `Backend.version`."""
        return self._usable().session.version()

    def close(self) -> None:
        """See `Backend.close`."""
        _close(self._process)

    def seat_of(self, owner: str) -> Seat | None:
        """Return where `owner` waits."""
        return self._process().known.by_owner.get(owner)

    def woken(self, seat: Seat, since: Busy) -> Grant | None:
        """Take what a waiter was granted; None if nothing was."""
        return turn.woken(self._limit(seat.request.name), seat, since.usual_hold)

    def _usable(self) -> _Process:
        process = self._process()
        if not process.session.usable:
            _close(self._process)
            process = self._process()
        return process

    def _limit(self, name: str) -> Limit:
        process = self._usable()
        if process.known.strays:
            with contextlib.suppress(BackendUnavailable):
                keeping.take_back_strays(process.known)
        process.known.tidy()
        if next(process.steps) % _STEPS == 0:
            pruning.prune(process.session)
        return process.limit(name)


def _close(processes: PerProcess[_Process]) -> None:
    if (process := processes.take()) is not None:
        process.session.close()
