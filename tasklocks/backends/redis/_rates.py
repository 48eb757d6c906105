"""Reserving a start in one round trip: a script for each algorithm."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from tasklocks.backends.base import RETENTION
from tasklocks.backends.redis._calls import Call
from tasklocks.backends.redis._scripts import RESERVE_FIXED, RESERVE_GCRA, RESERVE_SLIDING, Script
from tasklocks.counters import HAIR, STARTS_KEPT, is_calendar
from tasklocks.types import Pace, Refused, ReserveRequest, Slot

__all__ = ["reserve"]


def reserve(run: Callable[[Call], Any], keys: bytes, request: ReserveRequest) -> Slot | Refused | None:
    """Reserve a start as `Backend.reserve` does; None: it needs more than a script can do, and nothing was done."""
    plan = _plan(request.paces)
    if plan is None:
        return None
    script, rates = plan
    longest = -1 if request.max_wait is None else request.max_wait
    done, *times = run((script, keys, 1, (request.cost, longest, RETENTION, *rates)))
    if done == 1:
        start, now = map(float, times)
        return Slot(start, now, start - now)
    return Refused(float(times[0])) if done == 0 else None


@functools.lru_cache(maxsize=1024)
def _plan(paces: Sequence[Pace]) -> tuple[Script, tuple[object, ...]] | None:
    """Return the script and what it has to know of the rates."""
    pace = paces[0]
    if pace.algorithm == "gcra":
        pairs = [(repr(each.period / each.limit), -1 if each.burst is None else each.burst) for each in paces]
        return RESERVE_GCRA, tuple(part for pair in pairs for part in pair)
    if len(paces) > 1 or is_calendar(pace):
        return None
    if pace.algorithm == "fixed":
        return RESERVE_FIXED, (repr(pace.limit), repr(pace.period))
    return RESERVE_SLIDING, (repr(pace.limit * (1 + HAIR)), repr(pace.period), repr(pace.period / STARTS_KEPT))
