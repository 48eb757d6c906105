"""`Semaphore` and `Lock`: descriptions of a limit, to be shared freely; what is held is the `Lease` they return."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from functools import partial
from types import TracebackType

from tasklocks import waiting, who
from tasklocks.backends import Backend, connect
from tasklocks.durations import Duration, seconds
from tasklocks.errors import ConfigurationError
from tasklocks.fork import PerProcess
from tasklocks.leases import Lease, entered_leases
from tasklocks.names import check_name
from tasklocks.news import About
from tasklocks.resizing import Resizable
from tasklocks.types import AcquireRequest

__all__ = [
    "Capacity",
    "Lock",
    "Semaphore",
    "capacity_now",
    "check_capacity",
    "check_permits",
    "check_ttl",
    "checked_capacity",
    "connected",
]

Capacity = int | Callable[[], int]
"""How many permits a limit has: a number, `Resizable`, or a function that is asked at each acquire."""

_nonce = PerProcess(lambda: secrets.token_hex(8))
_count = itertools.count()


class Semaphore:
    """A limit with `capacity` permits.

    >>> with Semaphore("downloads", 3, backend="memory://") as lease:
    ...     lease.permits
    1

    Args:
        name: the limit; the same name on the same backend is the same limit everywhere.
        capacity: how many permits there are, or a function that says so at each acquire.
        permits: how many permits one lease takes.
        ttl: seconds (or a timedelta) after which a lease ends if its process dies.
        backend: a URL, or what `connect` returns; None: see `connect`.

    Raises:
        ConfigurationError: a name, number or URL that cannot work.
    """

    def __init__(
        self,
        name: str,
        capacity: Capacity = 1,
        *,
        permits: int = 1,
        ttl: Duration = 30.0,
        backend: str | Backend | None = None,
    ) -> None:
        where = f"limit {check_name(name)!r}"
        self.name = name
        self._capacity = checked_capacity(capacity, where)
        self._permits = check_permits(permits, capacity, where)
        self._ttl = seconds(ttl, setting=f"{where}: ttl", exclusive=True)
        self._backend = connected(backend, where)
        check_ttl(self._ttl, self._backend, where)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def acquire(self, *, blocking: bool = True, timeout: Duration | None = None) -> Lease:
        """Return a lease, waiting in line for it if need be.

        Args:
            blocking: whether to wait at all.
            timeout: how long to wait, in seconds; None: as long as it takes.

        Raises:
            LockBusy: no permit is free and `blocking` is False.
            LockTimeout: no permit became free within `timeout`.
            BackendUnavailable: the backend does not answer.
        """
        limit = None if timeout is None else seconds(timeout, setting=f"limit {self.name!r}: timeout")
        hold = partial(Lease, self._backend)
        return waiting.take(self._backend, self._request(), hold, timeout=limit if blocking else 0.0, source=self)

    def about(self, limit: str, owner: str) -> About:
        """Return what its news is about (called by `tasklocks.news`)."""
        capacity = self._capacity if isinstance(self._capacity, int) else None
        return About(limit, owner=owner, backend=repr(self._backend), permits=self._permits, capacity=capacity)

    def waited_for(self) -> float:
        """Return 0.0: a description has not waited."""
        return 0.0

    def __enter__(self) -> Lease:
        lease = self.acquire()
        lease.made_by = self
        return lease.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for lease in reversed(entered_leases()):
            if lease.made_by is self:
                lease.__exit__(kind, error, trace)
                return

    def _request(self) -> AcquireRequest:
        return AcquireRequest(
            self.name,
            f"{_nonce()}-{next(_count)}",
            self._permits,
            capacity_now(self._capacity, self._backend, self.name, f"limit {self.name!r}"),
            self._ttl,
            info=who.this_process(),
        )


class Lock(Semaphore):
    """A mutex: a limit with one permit.

    >>> with Lock("report", backend="memory://") as lease:
    ...     lease.lost
    False
    """

    def __init__(self, name: str, *, ttl: Duration = 30.0, backend: str | Backend | None = None) -> None:
        super().__init__(name, 1, ttl=ttl, backend=backend)


def capacity_now(capacity: Capacity, backend: Backend, name: str, where: str) -> int:
    """Return how many permits a limit has at this moment."""
    if isinstance(capacity, int):
        return capacity
    said = capacity.on(backend, name) if isinstance(capacity, Resizable) else capacity()
    return check_capacity(said, where)


def checked_capacity(capacity: Capacity, where: str) -> Capacity:
    """Return `capacity` if it can work, as far as that is known before it is asked for."""
    if callable(capacity) and not isinstance(capacity, Resizable):
        return capacity
    check_capacity(capacity.permits if isinstance(capacity, Resizable) else capacity, where)
    return capacity


def check_capacity(capacity: object, where: str) -> int:
    """Return `capacity` if it is a whole number of permits, at least 1; else raise `ConfigurationError`."""
    if isinstance(capacity, bool) or not isinstance(capacity, int) or capacity < 1:
        raise ConfigurationError(f"{where}: capacity must be a whole number of permits, at least 1, not {capacity!r}")
    return capacity


def check_permits(permits: object, capacity: Capacity, where: str) -> int:
    """Return `permits` if a lease of the limit can cover that many; else raise `ConfigurationError`."""
    if isinstance(permits, bool) or not isinstance(permits, int) or permits < 1:
        raise ConfigurationError(f"{where}: permits must be a whole number, at least 1, not {permits!r}")
    if not callable(capacity) and permits > capacity:
        raise ConfigurationError(f"{where}: {permits} permits can never be free at once, the capacity is {capacity}")
    return permits


def check_ttl(ttl: float, backend: Backend, where: str) -> float:
    """Return `ttl` if the backend can keep it; else raise `ConfigurationError`."""
    least = backend.capabilities.min_ttl
    if ttl < least:
        raise ConfigurationError(f"{where}: ttl is {ttl:g} s, this backend can keep {least:g} s at the least")
    return ttl


def connected(backend: str | Backend | None, where: str) -> Backend:
    """Return the backend that is meant; else raise `ConfigurationError`, with the setting that names it."""
    if backend is not None and not isinstance(backend, str):
        if not hasattr(backend, "capabilities"):
            raise ConfigurationError(f"{where}: backend must be a URL or what connect returns, not {backend!r}")
        return backend
    try:
        return connect(backend)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {'backend' if backend else 'TASKLOCKS_URL'}: {error}") from error
