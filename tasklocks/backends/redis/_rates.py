"""Reserving a start in one round trip, alone or with a lock: a script for each algorithm."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from tasklocks.backends.base import RETENTION
from tasklocks.backends.redis._calls import Call
from tasklocks.backends.redis._scripts import RESERVE_FIXED, RESERVE_GCRA, RESERVE_SLIDING
from tasklocks.counters import HAIR, STARTS_KEPT, is_calendar
from tasklocks.types import Algorithm, Pace, Refused, ReserveRequest, Slot

__all__ = ["reserve", "way_to_reserve"]

_SCRIPTS = {"gcra": RESERVE_GCRA, "fixed": RESERVE_FIXED, "sliding": RESERVE_SLIDING}


def reserve(run: Callable[[Call], Any], keys: bytes, request: ReserveRequest) -> Slot | Refused | None:
    """Reserve a start as `Backend.reserve` does; None: it needs more than a script can do, and nothing was done."""
    way = way_to_reserve(request)
    if way is None:
        return None
    algorithm, args = way
    done, *times = run((_SCRIPTS[algorithm], keys, 1, args))
    if done == 1:
        start, now = map(float, times)
        return Slot(start, now, start - now)
    return Refused(float(times[0])) if done == 0 else None


def way_to_reserve(request: ReserveRequest) -> tuple[Algorithm, tuple[object, ...]] | None:
    """Return the algorithm and the arguments of its script; None: it needs more than a script can do."""
    rates = _rates(request.paces)
    longest = -1 if request.max_wait is None else request.max_wait
    return None if rates is None else (request.paces[0].algorithm, (request.cost, longest, RETENTION, *rates))


@functools.lru_cache(maxsize=1024)
def _rates(paces: Sequence[Pace]) -> tuple[object, ...] | None:
    """Return what a script has to know of the rates."""
    pace = paces[0]
    if pace.algorithm == "gcra":
        pairs = [(repr(each.period / each.limit), -1 if each.burst is None else each.burst) for each in paces]
        return tuple(part for pair in pairs for part in pair)
    if len(paces) > 1 or is_calendar(pace):
        return None
    if pace.algorithm == "fixed":
        return repr(pace.limit), repr(pace.period)
    return repr(pace.limit * (1 + HAIR)), repr(pace.period), repr(pace.period / STARTS_KEPT)
