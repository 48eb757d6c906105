"""`RateLimit`: how often something may start, over all processes that share a backend."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tasklocks import clock
from tasklocks.backends import Backend
from tasklocks.backends.base import RETENTION
from tasklocks.durations import Duration, PauseLength, Until, seconds, until_when
from tasklocks.errors import ConfigurationError, LockBusy, LockTimeout
from tasklocks.names import check_name
from tasklocks.rates import LONGEST_SHARE, RateState, parse_rate
from tasklocks.semaphore import connected
from tasklocks.types import Algorithm, Pace, Refused, ReserveRequest, Slot

__all__ = [
    "Rate",
    "RateLimit",
    "Rates",
    "check_cost",
    "check_rates",
    "paces_of",
    "pause",
    "pause_until",
    "resume",
    "slot_left",
]

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
            left = slot_left(self._backend, self.name, self._paces(), slot)

    def reserve(self, cost: float = 1.0) -> float:
        """Reserve a start, and return the seconds until it; whoever called it starts then, without asking again.

        Raises:
            ConfigurationError: the cost can never start.
            BackendUnavailable: the backend does not answer.
        """
        slot = self._reserve(cost, None)
        return slot.wait

    def pause(self, length: PauseLength | None = None, *, until: datetime | None = None) -> None:
        """Let nothing start for a time; see the function `pause`."""
        pause(self.name, length, until=until, backend=self._backend)

    def resume(self) -> None:
        """End a pause; see the function `resume`."""
        resume(self.name, backend=self._backend)

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
    paces = tuple(Pace(*parse_rate(each, f"{where}: rate"), burst, algorithm, zone) for each in rates)
    if burst is not None and burst > (most := min(map(_most, paces))):
        raise ConfigurationError(f"{where}: burst must be at most {most:g} with this rate, not {burst!r}")
    return paces


def check_cost(cost: Any, paces: Sequence[Pace], where: str) -> float:
    """Return `cost` if such a start can ever be; else raise `ConfigurationError`."""
    if isinstance(cost, bool) or not isinstance(cost, (int, float)) or not 0 < cost < math.inf:
        raise ConfigurationError(f"{where}: cost must be a number above 0, not {cost!r}")
    for pace in paces:
        most = pace.limit if pace.algorithm != "gcra" else pace.burst or _most(pace)
        if cost > most:
            raise ConfigurationError(f"{where}: a start that costs {cost:g} can never be, {most:g} are allowed at once")
    return float(cost)


def slot_left(backend: Backend, name: str, paces: Sequence[Pace], slot: Slot) -> float:
    """Return for how many seconds a reserved start has to wait yet, with the pauses since it was reserved."""

    def look(text: str, now: float) -> tuple[str, float, float]:
        return text, 0.0, RateState.read(text).wait_of(paces, slot.start, slot.made, now)

    return backend.update(name, look)


def pause(
    name: str,
    length: PauseLength | None = None,
    *,
    until: datetime | None = None,
    backend: str | Backend | None = None,
) -> None:
    """Let nothing start under a rate limit for so long, or until then; what is reserved already moves by as much.

    >>> pause("partner-api", until=datetime.now(timezone.utc) + timedelta(minutes=5), backend="memory://")

    A pause never ends another one early: the later end counts. `resume` ends it.

    Args:
        name: the limit.
        length: seconds, a timedelta, or the value of an HTTP `Retry-After` header, also one that is a date.
        until: a datetime with a time zone, instead of a length. It is compared with the backend's clock.
        backend: a URL, or what `connect` returns; None: see `connect`.

    Raises:
        ConfigurationError: a name, time or URL that cannot work.
        BackendUnavailable: the backend does not answer.
    """
    where = f"rate limit {check_name(name)!r}"
    pause_until(connected(backend, where), name, until_when(length, until, setting=f"{where}: pause"))


def resume(name: str, *, backend: str | Backend | None = None) -> None:
    """End a pause now. What waits comes back at the time that it was told, what comes now starts now.

    Raises:
        ConfigurationError: a name or URL that cannot work.
        BackendUnavailable: the backend does not answer.
    """
    _change(connected(backend, f"rate limit {check_name(name)!r}"), name, lambda state, now: state.resume(now))


def pause_until(backend: Backend, name: str, until: Until) -> None:
    """Let nothing start before a moment."""
    _change(backend, name, lambda state, now: state.pause(until(now), now))


def _change(backend: Backend, name: str, step: Callable[[RateState, float], None]) -> None:
    def change(text: str, now: float) -> tuple[str, float, None]:
        state = RateState.read(text)
        step(state, now)
        return state.written(), state.lasts(now) + RETENTION, None

    backend.update(name, change)


def _most(pace: Pace) -> float:
    """Return what its rate gives in the longest time that anybody can mean."""
    return LONGEST_SHARE * pace.limit / pace.period


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
