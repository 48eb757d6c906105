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

from tasklocks.counters import Counter, counter
from tasklocks.errors import ConfigurationError
from tasklocks.types import Pace, Refused, Slot

__all__ = ["RateState", "parse_rate"]

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)?\s*([a-z]+)")
_SHIFTS_KEPT = 50
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
    return limit, period


@dataclass(slots=True)
class RateState:
    """What a backend keeps of a rate limit.

    Attributes:
        counted: what each pace has counted, in the paces' order.
        paused_until: backend's clock; nothing starts before. 0: not paused.
        shifts: what pauses did to reserved starts: when, and by how many seconds.
        late: what each pace has counted of starts that came late; see `begin`.
    """

    counted: list[Any] = field(default_factory=list)
    paused_until: float = 0.0
    shifts: list[list[float]] = field(default_factory=list)
    late: list[Any] = field(default_factory=list)

    @classmethod
    def read(cls, text: str) -> RateState:
        """Return what `written` wrote; an empty state for an empty text."""
        return cls(*json.loads(text)) if text else cls()

    def written(self) -> str:
        """Return the state as text."""
        return json.dumps([self.counted, self.paused_until, self.shifts, self.late], separators=(",", ":"))

    def reserve(self, paces: Sequence[Pace], cost: float, now: float, max_wait: float | None) -> Slot | Refused:
        """Reserve the earliest start that all paces allow.

        Args:
            paces: all must hold.
            cost: how much of each limit the start takes.
            now: backend's clock.
            max_wait: seconds; nothing is reserved if the start would be later. None: without bound.
        """
        counters = _counters(paces, self.counted)
        start = _earliest(counters, max(now, self.paused_until), cost)
        if max_wait is not None and start - now > max_wait:
            return Refused(start - now)
        for each in counters:
            each.book(start, cost)
        self.counted = [each.kept(now) for each in counters]
        return Slot(start, now, start - now)

    def begin(self, paces: Sequence[Pace], cost: float, slot: Slot, now: float, grace: float) -> Slot | None:
        """Return when a reserved start may be, asked at its moment; None: it is lost, another has to be reserved.

        Starts that come late come together: after a standstill all of them would be at once. So those that are late by
        more than `grace` seconds go through a line of their own, at the same pace, and those in time join it while it
        moves. Windows and quotas have no pace to line up by; there a late start is lost.
        """
        due = self.due(slot.start, slot.made)
        if due > now:
            return Slot(slot.start, slot.made, due - now)
        if any(pace.algorithm != "gcra" for pace in paces):
            return Slot(slot.start, slot.made, 0.0) if now - due <= grace else None
        line = _counters(paces, self.late)
        start = _earliest(line, max(now, self.paused_until), cost)
        if now - due <= grace and start <= now:
            return Slot(slot.start, slot.made, 0.0)
        for each in line:
            each.book(start, cost)
        self.late = [each.kept(now) for each in line]
        return Slot(start, now, start - now)

    def wait_of(self, start: float, made: float, now: float) -> float:
        """Return for how long a reserved start has to wait yet, with the pauses since; 0.0: not at all."""
        return max(0.0, self.due(start, made) - now)

    def due(self, start: float, made: float) -> float:
        """Return the moment of a start that was reserved for `start`, moved by the pauses since it was `made`."""
        for at, by in self.shifts:
            if at >= made and start > at:
                start += by
        return start

    def pause(self, paces: Sequence[Pace], until: float, now: float) -> None:
        """Let nothing start before `until` (backend's clock), and move all reserved starts by as much.

        A moment in the past resumes.
        """
        by = max(until, now) - max(self.paused_until, now)
        self.counted = _shifted(_counters(paces, self.counted), by, now)
        self.late = _shifted(_counters(paces, self.late), by, now) if self.late else []
        self.shifts = [*self.shifts[1 - _SHIFTS_KEPT :], [now, by]]
        self.paused_until = until

    def lasts(self, paces: Sequence[Pace], now: float) -> float:
        """Return for how many seconds from `now` the state still means something."""
        counters = [*_counters(paces, self.counted), *_counters(paces, self.late)]
        return max([self.paused_until, *(each.ends() for each in counters)]) - now


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


def _shifted(counters: Sequence[Counter], by: float, now: float) -> list[Any]:
    for each in counters:
        each.shift(by, now)
    return [each.kept(now) for each in counters]
