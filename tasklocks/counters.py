"""Three ways to count starts. Each answers the earliest start from a moment on, and books one.

Reservations are first come, first served: a later one never starts before an earlier one, so what is booked for later
is never overtaken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

from tasklocks.types import Algorithm, Pace

__all__ = ["HAIR", "STARTS_KEPT", "Counter", "counter", "is_calendar", "moved"]

STARTS_KEPT = 256
"""Of a sliding window; starts closer together than a 256th of it are counted as one."""

HAIR = 1e-9
"""Of the limit of a sliding window: sums of fractions are not exact."""

_SAME = 1e-6  # seconds; moments closer together are one

_CALENDAR = {3600.0: "hour", 86400.0: "day", 31 * 86400.0: "month"}


class Counter(Protocol):
    """What one pace of a limit has counted."""

    def earliest(self, at: float, cost: float) -> float:
        """Return the first moment from `at` on at which `cost` may start."""

    def book(self, start: float, cost: float) -> None:
        """Count a start."""

    def unbook(self, start: float, cost: float, *, waited: bool) -> bool:
        """Count a start no more, if that leaves no trace: nobody has booked behind it.

        Args:
            start: what was booked.
            cost: with which cost.
            waited: whether it was booked for later, because of this pace or another one.

        Returns:
            Whether it was taken out.
        """

    def shift(self, at: float, move: Callable[[float], float]) -> None:
        """Move all that lies ahead of `at`."""

    def ends(self) -> float:
        """Return from when on nothing of what was counted matters; the backend's clock."""

    def kept(self, now: float) -> Any:
        """Return what to keep, for JSON."""


class _Gcra:
    """Even pacing with a burst: the generic cell rate algorithm (ITU-T I.371), in its virtual scheduling form."""

    def __init__(self, pace: Pace, kept: Any) -> None:
        self._each = pace.period / pace.limit
        self._burst = pace.burst
        self._arrival = float(kept or 0.0)  # the theoretical arrival time of the next start

    def earliest(self, at: float, cost: float) -> float:
        credit = 0.0 if self._burst is None else self._burst - cost
        return max(at, self._arrival - credit * self._each)

    def book(self, start: float, cost: float) -> None:
        begin, share = max(self._arrival, start), cost * self._each
        self._arrival = begin + share
        if self._arrival - begin < share:
            # Rounded up, never down: what each start gained by that would add up to starts too many.
            self._arrival *= 1 + 2.0**-52

    def unbook(self, start: float, cost: float, *, waited: bool) -> bool:
        # Who waited has used up the burst; who did not may have, and then it cannot be told who came last.
        behind = self._burst * self._each if self._burst is not None and waited else cost * self._each
        if abs(self._arrival - start - behind) > min(_SAME, behind / 4):
            return False
        self._arrival -= cost * self._each
        return True

    def shift(self, at: float, move: Callable[[float], float]) -> None:
        self._arrival = move(self._arrival)

    def ends(self) -> float:
        return self._arrival + (self._burst or 0.0) * self._each

    def kept(self, now: float) -> Any:
        return self._arrival


class _Sliding:
    """Never more than the limit in any window of the period's length."""

    def __init__(self, pace: Pace, kept: Any) -> None:
        self._limit, self._period = pace.limit, pace.period
        # First start, last start, and the cost of all up to here, so that nobody has to add up what lies between.
        self._starts = _copied(kept)

    def earliest(self, at: float, cost: float) -> float:
        if not self._starts:
            return at
        _, newest, total = self._starts[-1]
        over = total + cost - self._limit * (1 + HAIR)  # so much has to be out of the window
        start = max(at, newest)
        if over > 0:
            start = max(start, next((last for _, last, past in self._starts if past >= over), newest) + self._period)
        return start

    def book(self, start: float, cost: float) -> None:
        total = cost + (self._starts[-1][2] if self._starts else 0.0)
        if self._starts and start - self._starts[-1][0] < self._period / STARTS_KEPT:
            # Counted as of the later one: it may cost a moment, it never lets one too many start.
            self._starts[-1][1:] = [start, total]
        else:
            self._starts.append([start, start, total])

    def unbook(self, start: float, cost: float, *, waited: bool) -> bool:
        if not self._starts or self._starts[-1][1] != start:
            return False
        first, _, total = self._starts.pop()
        before = self._starts[-1][2] if self._starts else 0.0
        if first < start or total - cost - before > HAIR * self._limit:
            self._starts.append([first, start, total - cost])
        return True

    def shift(self, at: float, move: Callable[[float], float]) -> None:
        for each in self._starts:
            if each[1] > at:
                each[:2] = [move(each[0]), move(each[1])]

    def ends(self) -> float:
        return self._starts[-1][1] + self._period if self._starts else 0.0

    def kept(self, now: float) -> Any:
        over = sum(each[1] <= now - self._period for each in self._starts)
        # The newest of those that are over stays, for what it says of all before it.
        return self._starts[max(0, over - 1) :] if over < len(self._starts) else []


class _Fixed:
    """A quota for each window of the calendar in a time zone, or for each stretch of the period's length since 1970."""

    def __init__(self, pace: Pace, kept: Any) -> None:
        self._pace = pace
        self._used = _copied(kept)  # window's begin, cost, last start; the last is the newest

    def earliest(self, at: float, cost: float) -> float:
        begin, end = _window(self._pace, max(at, self._used[-1][0]) if self._used else at)
        while self._taken(begin) + cost > self._pace.limit:
            begin, end = _window(self._pace, end)
        return max(at, begin)

    def book(self, start: float, cost: float) -> None:
        self._add(start, cost, start)

    def unbook(self, start: float, cost: float, *, waited: bool) -> bool:
        if not self._used or self._used[-1][0] != _window(self._pace, start)[0]:
            return False
        self._used[-1][1] = max(0.0, self._used[-1][1] - cost)
        return True

    def shift(self, at: float, move: Callable[[float], float]) -> None:
        booked, self._used = self._used, []
        for begin, cost, last in booked:
            if begin <= at:
                self._add(begin, cost, min(last, at))
        for begin, cost, last in booked:
            if last > at:
                self._add_all(begin if begin <= at else -math.inf, cost, move(max(begin, at)), move(last))

    def ends(self) -> float:
        return _window(self._pace, self._used[-1][0])[1] if self._used else 0.0

    def kept(self, now: float) -> Any:
        return [each for each in self._used if _window(self._pace, each[0])[1] > now]

    def _add_all(self, counted: float, cost: float, first: float, last: float) -> None:
        """Count in each window from `first` to `last` what may lie in any of them, unless it is `counted` there."""
        while first <= last:
            begin, end = _window(self._pace, first)
            self._add(first, 0.0 if begin == counted else cost, last)
            first = end

    def _add(self, at: float, cost: float, last: float) -> None:
        begin = _window(self._pace, at)[0]
        if self._used and self._used[-1][0] == begin:
            self._used[-1][1:] = [self._used[-1][1] + cost, max(self._used[-1][2], last)]
        else:
            self._used.append([begin, cost, last])

    def _taken(self, begin: float) -> float:
        return sum(each[1] for each in self._used if each[0] == begin)


def counter(pace: Pace, kept: Any) -> Counter:
    """Return what `pace` counts by, from what was kept; None: nothing yet."""
    kinds: dict[Algorithm, type[_Gcra] | type[_Sliding] | type[_Fixed]]
    kinds = {"gcra": _Gcra, "sliding": _Sliding, "fixed": _Fixed}
    return kinds[pace.algorithm](pace, kept)


def _copied(kept: Any) -> list[list[float]]:
    # What is refused leaves the state as it was.
    return [list(each) for each in kept or ()]


def moved(paces: Sequence[Pace], start: float, since: float, until: float) -> float:
    """Return when a reserved start may be that has to wait from `since` until `until`; the other way round: need not.

    Even pacing and sliding windows only need their distances. The quota of a fixed window needs that what shares it
    goes on sharing one, alone: so it moves by whole windows, as many as the pause reaches into; of several rates, by
    those of the shortest.
    """
    if paces[0].algorithm != "fixed":
        return start + until - since
    return _moved_on(min(paces, key=lambda pace: pace.period), start, since, until)


def _moved_on(pace: Pace, start: float, since: float, until: float) -> float:
    begin, here, there = (_window(pace, each)[0] for each in (start, since, until))
    if not is_calendar(pace):
        return max(start, begin + there - here, until)
    while here < there:
        begin, here = _window(pace, begin)[1], _window(pace, here)[1]
    return max(start, begin, until)


def is_calendar(pace: Pace) -> bool:
    """Tell whether its windows need a calendar: the hours and days of UTC are stretches of one length since 1970."""
    if pace.algorithm != "fixed" or pace.period not in _CALENDAR:
        return False
    return _CALENDAR[pace.period] == "month" or getattr(pace.zone, "key", "UTC") != "UTC"


def _window(pace: Pace, at: float) -> tuple[float, float]:
    """Return begin and end of the window that `at` lies in, as seconds since the epoch."""
    if not is_calendar(pace):
        begin = math.floor(at / pace.period) * pace.period
        return begin, begin + pace.period
    unit, local = _CALENDAR[pace.period], datetime.fromtimestamp(at, pace.zone or timezone.utc)
    first = local.replace(minute=0, second=0, microsecond=0)
    if unit != "hour":
        first = first.replace(hour=0, day=1 if unit == "month" else first.day, fold=0)
    return first.timestamp(), _next(first, unit).timestamp()


def _next(first: datetime, unit: str) -> datetime:
    if unit == "hour":
        # On the clock that never jumps: a wall clock has an hour twice a year that is not one.
        return datetime.fromtimestamp(first.timestamp() + 3600, first.tzinfo)
    if unit == "day":
        return first + timedelta(days=1)
    return (first.replace(day=28) + timedelta(days=4)).replace(day=1)
