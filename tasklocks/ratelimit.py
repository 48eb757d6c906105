"""`RateLimit`: how often something may start, over all processes that share a backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tasklocks import clock
from tasklocks.backends import Backend
from tasklocks.backends.base import RETENTION
from tasklocks.durations import Duration, seconds
from tasklocks.errors import ConfigurationError, LockBusy, LockTimeout
from tasklocks.names import check_name
from tasklocks.rates import RateState, parse_rate
from tasklocks.semaphore import connected
from tasklocks.types import Algorithm, Pace, Refused, ReserveRequest, Slot

__all__ = ["Rate", "RateLimit", "Rates", "check_rates", "paces_of", "pause", "slot_left"]

Rate = str | Sequence[str]
"""`"100/m"`, `"5/s"`, `"10/30s"`; or several at once, which must all hold."""

Rates = Rate | Callable[[], Rate]
"""A rate, or a function that is asked for it each time."""


class RateLimit:
    """At most so many starts in a time, each at a moment that is reserved for it.

    >>> limit = RateLimit("partner-api", "100/m", backend="memory://")
    >>> limit.reserve()
    0.0

    Args:
        name: the limit; the same name on the same backend is the same limit everywhere.
        rate: `"100/m"`, `"5/s"`, `"10/30s"`, several of them, or a function that says so each time.
        burst: how much may start at once after a pause (`gcra` only). None: each start waits for its own share.
        algorithm: `"gcra"` (even pacing), `"sliding"` (never more in any window) or `"fixed"` (a quota of each calendar
            hour, day or month, or of each other stretch of time since 1970).
        timezone: the name of the time zone of a calendar quota; None: UTC.
        backend: a URL, or what `connect` returns; None: see `connect`.

    Raises:
        ConfigurationError: a name, rate, number or URL that cannot work.
    """

    def __init__(
        self,
        name: str,
        rate: Rates,
        *,
        burst: float | None = None,
        algorithm: Algorithm = "gcra",
        timezone: str | None = None,
        backend: str | Backend | None = None,
    ) -> None:
        self._where = f"rate limit {check_name(name)!r}"
        self.name = name
        self._paces = check_rates(rate, burst, algorithm, timezone, self._where)
        self._backend = connected(backend, self._where)

    def __repr__(self) -> str:
        return f"RateLimit({self.name!r})"

    def acquire(self, cost: float = 1.0, *, blocking: bool = True, timeout: Duration | None = None) -> None:
        """Return when it may start; nothing is to be given back afterwards.

        Args:
            cost: how much of the rate the start takes.
            blocking: whether to wait at all.
            timeout: how long to wait at the most, in seconds; if it would be longer, nothing is reserved.

        Raises:
            LockBusy: it may not start now, and `blocking` is False.
            LockTimeout: it may not start within `timeout`.
            ConfigurationError: the cost can never start.
            BackendUnavailable: the backend does not answer.
        """
        bound = None if timeout is None else seconds(timeout, setting=f"{self._where}: timeout")
        slot = self._reserve(cost, bound if blocking else 0.0)
        if isinstance(slot, Refused):
            kind = LockTimeout if blocking else LockBusy
            raise kind(f"{self._where} ({self._told()}): the next start is in {slot.wait:.3g} s", name=self.name)
        left = slot.wait
        while left > 0:
            clock.pause(left)
            left = slot_left(self._backend, self.name, slot)

    def reserve(self, cost: float = 1.0) -> float:
        """Reserve a start, and return the seconds until it; whoever called it starts then, without asking again.

        Raises:
            ConfigurationError: the cost can never start.
            BackendUnavailable: the backend does not answer.
        """
        slot = self._reserve(cost, None)
        return slot.wait

    def pause(self, seconds_: Duration) -> None:
        """Let nothing start for so many seconds from now; what is reserved already moves by as much."""
        pause(self._backend, self.name, self._paces(), seconds(seconds_, setting=f"{self._where}: pause"))

    def resume(self) -> None:
        """End a pause."""
        pause(self._backend, self.name, self._paces(), 0.0)

    def _reserve(self, cost: float, max_wait: float | None) -> Slot | Refused:
        paces = self._paces()
        check_cost(cost, paces, self._where)
        return self._backend.reserve(ReserveRequest(self.name, paces, cost, max_wait))

    def _told(self) -> str:
        return ", ".join(f"{pace.limit:g} in {pace.period:g} s" for pace in self._paces())


def check_rates(
    rate: Rates, burst: float | None, algorithm: Algorithm, timezone: str | None, where: str
) -> Callable[[], tuple[Pace, ...]]:
    """Return a function that says the paces of a rate, checked; one that is not a function is checked at once.

    Raises:
        ConfigurationError: something that cannot work, with its setting.
    """
    if algorithm not in ("gcra", "sliding", "fixed"):
        raise ConfigurationError(f"{where}: algorithm must be 'gcra', 'sliding' or 'fixed', not {algorithm!r}")
    if burst is not None:
        _check_burst(burst, algorithm, where)
    zone = _zone(timezone, where)
    if callable(rate):
        return lambda: paces_of(rate(), burst, algorithm, zone, where)
    paces = paces_of(rate, burst, algorithm, zone, where)
    return lambda: paces


def paces_of(
    rate: Rate, burst: float | None, algorithm: Algorithm, zone: tzinfo | None, where: str
) -> tuple[Pace, ...]:
    """Return the paces of a rate; raise `ConfigurationError` if one of them is none."""
    rates = [rate] if isinstance(rate, str) else list(rate) if isinstance(rate, Sequence) else [rate]
    if not rates:
        raise ConfigurationError(f"{where}: no rate is given")
    return tuple(Pace(*parse_rate(each, f"{where}: rate"), burst, algorithm, zone) for each in rates)


def check_cost(cost: Any, paces: Sequence[Pace], where: str) -> float:
    """Return `cost` if such a start can ever be; else raise `ConfigurationError`."""
    if isinstance(cost, bool) or not isinstance(cost, (int, float)) or not 0 < cost < math.inf:
        raise ConfigurationError(f"{where}: cost must be a number above 0, not {cost!r}")
    for pace in paces:
        most = pace.limit if pace.algorithm != "gcra" else math.inf if pace.burst is None else pace.burst
        if cost > most:
            raise ConfigurationError(f"{where}: a start that costs {cost:g} can never be, {most:g} are allowed at once")
    return float(cost)


def slot_left(backend: Backend, name: str, slot: Slot) -> float:
    """Return for how many seconds a reserved start has to wait yet, with the pauses since it was reserved."""
    return backend.update(name, lambda text, now: (text, 0.0, RateState.read(text).wait_of(slot.start, slot.made, now)))


def pause(backend: Backend, name: str, paces: Sequence[Pace], length: float) -> None:
    """Let nothing start for `length` seconds from now; 0 resumes."""

    def change(text: str, now: float) -> tuple[str, float, None]:
        state = RateState.read(text)
        state.pause(paces, now + length, now)
        return state.written(), state.lasts(paces, now) + RETENTION, None

    backend.update(name, change)


def _check_burst(burst: Any, algorithm: Algorithm, where: str) -> None:
    if algorithm != "gcra":
        raise ConfigurationError(f"{where}: burst means something for algorithm='gcra' only")
    if isinstance(burst, bool) or not isinstance(burst, (int, float)) or not 0 < burst < math.inf:
        raise ConfigurationError(f"{where}: burst must be a number above 0, not {burst!r}")


def _zone(timezone: str | None, where: str) -> tzinfo | None:
    if timezone is None:
        return ZoneInfo("UTC")
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, TypeError):
        raise ConfigurationError(f"{where}: there is no time zone {timezone!r} here") from None
