"""How often something may start: rates, and reservations of the exact moment at which a start may be.

A reservation is made once and moves the limit's state; whoever made it starts at its moment. All of it is arithmetic on
a small text, which a backend replaces in one atomic step (`Backend.update`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tasklocks.counters import Counter, counter, moved
from tasklocks.errors import ConfigurationError
from tasklocks.types import Pace, Refused, Slot

__all__ = ["LONGEST_SHARE", "RateState", "parse_rate"]

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)?\s*([a-z]+)", re.ASCII)
_SHIFTS_KEPT = 50
# Of the fields in the text, the one that may be long last: scripts read what is before it, and then a part of it.
_ORDER = ("paused_until", "shifts", "late", "owed", "ends", "algorithm", "counted")
LONGEST_SHARE = 1e9
"""Seconds, thirty years: what is put off for longer is never."""

_SHORTEST_SHARE = 1e-12  # seconds; of bytes there may be many
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "month": 31 * 86400.0}


def parse_rate(rate: str, where: str) -> tuple[float, float]:
    """Return limit and period (in seconds) of a rate such as `"100/m"`, `"5/s"` or `"10/30s"`.

    Raises:
        ConfigurationError: it is none; the message shows what is.
    """
    found = _RATE.fullmatch(rate.strip().lower()) if isinstance(rate, str) else None
    if found is None or found[3] not in _UNITS:
        raise ConfigurationError(
            f"{where}: a rate has the form '100/m', '5/s' or '10/30s', with s, m, h, d or month, not {rate!r}"
        )
    limit, period = float(found[1]), float(found[2] or 1) * _UNITS[found[3]]
    if limit <= 0 or period <= 0:
        raise ConfigurationError(f"{where}: nothing could ever start at the rate {rate!r}")
    if not _SHORTEST_SHARE <= period / limit <= LONGEST_SHARE:
        raise ConfigurationError(f"{where}: no clock can keep the rate {_short(rate)}")
    return limit, period


def _short(rate: str) -> str:
    return repr(rate if len(rate) < 40 else f"{rate[:20]}...{rate[-10:]}")


@dataclass(slots=True)
class RateState:
    """What a backend keeps of a rate limit.

    Attributes:
        counted: what each pace has counted, in the paces' order.
        paused_until: backend's clock; nothing starts before. 0: not paused.
        shifts: what pauses did to reserved starts: when a pause was made, from when it made them wait, and until when.
        late: what each pace has counted of starts that came late; see `begin`.
        owed: the shifts by which what was counted has yet to move. Who pauses need not know the rates; who reserves
            next does.
        ends: backend's clock; from when on nothing of what was counted matters.
        algorithm: how it was counted; what was counted in another way counts as nothing.
    """

    counted: list[Any] = field(default_factory=list)
    paused_until: float = 0.0
    shifts: list[list[float]] = field(default_factory=list)
    late: list[Any] = field(default_factory=list)
    owed: list[list[float]] = field(default_factory=list)
    ends: float = 0.0
    algorithm: str = ""

    @classmethod
    def read(cls, text: str) -> RateState:
        """Return what `written` wrote; an empty state for an empty text."""
        return cls(**dict(zip(_ORDER, json.loads(text), strict=True))) if text else cls()

    def written(self) -> str:
        """Return the state as text."""
        return json.dumps([getattr(self, name) for name in _ORDER], separators=(",", ":"))

    def reserve(self, paces: Sequence[Pace], cost: float, now: float, max_wait: float | None) -> Slot | Refused:
        """Reserve the earliest start that all paces allow.

        Args:
            paces: all must hold; of one algorithm.
            cost: how much of each limit the start takes.
            now: backend's clock.
            max_wait: seconds; nothing is reserved if the start would be later. None: without bound.
        """
        counters = self._moved(paces, self.counted)
        start = self._earliest(paces, counters, cost, now)
        if max_wait is not None and start - now > max_wait:
            return Refused(start - now)
        for each in counters:
            each.book(start, cost)
        self._count(paces, counters, self._moved(paces, self.late), now)
        return Slot(start, self._behind_shifts(now), start - now)

    def begin(self, paces: Sequence[Pace], cost: float, slot: Slot, now: float, grace: float) -> Slot | None:
        """Return when a reserved start may be, asked at its moment; None: it is lost, another has to be reserved.

        Starts that come late come together: after a standstill all of them would be at once. So those that are late by
        more than `grace` seconds go through a line of their own, at the same pace, and those in time join it while it
        moves. Windows and quotas have no pace to line up by; there a late start is lost. Into a pause all come late.
        """
        due = self.due(paces, slot.start, slot.made)
        if due > now:
            return Slot(slot.start, slot.made, due - now)
        if any(pace.algorithm != "gcra" for pace in paces):
            in_time = now - due <= grace and now >= self.paused_until
            return Slot(slot.start, slot.made, 0.0) if in_time else None
        line = self._moved(paces, self.late)
        start = _earliest(line, max(now, self.paused_until), cost)
        if now - due <= grace and start <= now:
            return Slot(slot.start, slot.made, 0.0)
        for each in line:
            each.book(start, cost)
        self._count(paces, self._moved(paces, self.counted), line, now)
        return Slot(start, self._behind_shifts(now), start - now)

    def give_back(self, paces: Sequence[Pace], cost: float, slot: Slot, now: float) -> bool:
        """Let somebody else have a reserved start; return whether that could be.

        Only if nobody has reserved behind it: whoever came behind has a start that counts on it. And not in a pause,
        which may have moved it.
        """
        if self.paused_until > now or self.algorithm != paces[0].algorithm:
            return False
        counters, due = self._moved(paces, self.counted), self.due(paces, slot.start, slot.made)
        if not all(each.unbook(due, cost, waited=slot.wait > 0) for each in counters):
            return False
        self._count(paces, counters, self._moved(paces, self.late), now)
        return True

    def wait_of(self, paces: Sequence[Pace], start: float, made: float, now: float) -> float:
        """Return for how long a reserved start has to wait yet, with the pauses since; 0.0: not at all."""
        return max(0.0, self.due(paces, start, made) - now)

    def due(self, paces: Sequence[Pace], start: float, made: float) -> float:
        """Return the moment of a start that was reserved for `start`, moved by the pauses since it was `made`."""
        for at, since, until in self.shifts:
            if at >= made and start > at:
                start = moved(paces, start, since, until)
        return start

    def pause(self, until: float, now: float) -> None:
        """Let nothing start before `until` (backend's clock), and move all reserved starts by as much.

        A pause that would end before the present one does changes nothing: who was told to wait longer still has to.
        """
        if until > max(self.paused_until, now):
            self._move(max(self.paused_until, now), until, now)
            self.paused_until = until

    def resume(self, now: float) -> None:
        """End a pause, and move what it had moved back by the rest of it.

        Not with quotas of fixed windows: what was moved on into the next window may have no room in this one.
        """
        if self.paused_until > now:
            if self.algorithm != "fixed":
                self._move(self.paused_until, now, now)
            self.paused_until = now

    def lasts(self, now: float) -> float:
        """Return for how many seconds from `now` the state still means something."""
        return max(self.paused_until, self.ends, now) - now

    def _earliest(self, paces: Sequence[Pace], counters: Sequence[Counter], cost: float, now: float) -> float:
        rest = self.paused_until - now
        if rest <= 0 or paces[0].algorithm == "fixed":
            return _earliest(counters, max(now, self.paused_until), cost)
        # As if the pause ended now, and then moved by the rest of it: so it is right whenever the pause ends.
        ended = self._moved(paces, self.counted)
        _shift(paces, ended, now, self.paused_until, now)
        return _earliest(ended, now, cost) + rest

    def _behind_shifts(self, now: float) -> float:
        """Return `now`, or a moment after the last shift: what is reserved after it must not look as if before."""
        return max(now, math.nextafter(self.shifts[-1][0], math.inf)) if self.shifts else now

    def _move(self, since: float, until: float, now: float) -> None:
        if self.owed and self.paused_until > now:
            # Nothing was reserved since this pause began, and all that it moved lies behind its end.
            self.shifts[-1][2] = self.owed[-1][2] = until
        else:
            self.shifts = [*self.shifts[1 - _SHIFTS_KEPT :], [self._behind_shifts(now), since, until]]
            self.owed = [*self.owed, self.shifts[-1]]
        self.ends += max(0.0, until - since)

    def _moved(self, paces: Sequence[Pace], counted: Sequence[Any]) -> list[Counter]:
        counters = _counters(paces, counted if self.algorithm in ("", paces[0].algorithm) else ())
        for at, since, until in self.owed:
            _shift(paces, counters, at, since, until)
        return counters

    def _count(self, paces: Sequence[Pace], counters: Sequence[Counter], line: Sequence[Counter], now: float) -> None:
        self.counted, self.late = [each.kept(now) for each in counters], [each.kept(now) for each in line]
        self.owed, self.ends = [], max(each.ends() for each in (*counters, *line))
        self.algorithm = paces[0].algorithm


def _counters(paces: Sequence[Pace], counted: Sequence[Any]) -> list[Counter]:
    filled = [*counted, *[None] * len(paces)]
    return [counter(pace, kept) for pace, kept in zip(paces, filled, strict=False)]


def _earliest(counters: Sequence[Counter], start: float, cost: float) -> float:
    """Return the first moment from `start` on that all counters allow."""
    agreed = -math.inf
    while start != agreed:
        agreed = start
        start = max(each.earliest(start, cost) for each in counters)
    return start


def _shift(paces: Sequence[Pace], counters: Sequence[Counter], at: float, since: float, until: float) -> None:
    for each in counters:
        each.shift(at, lambda start: moved(paces, start, since, until))
