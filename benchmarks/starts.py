"""What a record of starts says: how many there were of what the limit allows, how full any window was, and whether the
backend kept the same."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasklocks.types import Algorithm, Pace

__all__ = ["Tally", "tally"]

_HAIR = 1e-5  # seconds; times are sums of floats
_SLACK = 1e-3
"""Of one start: times are sums of floats."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What a record says; each start costs 1.

    Attributes:
        admitted: starts in the stretch of time that is looked at.
        share: of what the limit allows in such a stretch.
        fullest: the fullest window of the whole record, as a share of what it may have.
        agrees: whether the backend's own state has counted the same starts.
    """

    admitted: int
    share: float
    fullest: float
    agrees: bool


def tally(pace: Pace, starts: Sequence[float], kept: Any, seconds: float) -> Tally:
    """Judge the record of all starts of a limit.

    Args:
        pace: what the limit promises; for `fixed` a period that the calendar has no name for.
        starts: when each start was to be, on the backend's clock.
        kept: what the backend's state has counted.
        seconds: how long a stretch of time to look at, from its beginning on; whole periods.
    """
    ordered = sorted(starts)
    begin = ordered[0]
    if pace.algorithm == "fixed":
        begin = math.ceil(begin / pace.period) * pace.period
    admitted = _between(ordered, begin, begin + seconds)
    allowed = pace.limit * seconds / pace.period + (pace.burst or 0)
    return Tally(
        admitted,
        admitted / allowed,
        _FULLEST[pace.algorithm](pace, ordered),
        _AGREES[pace.algorithm](pace, ordered, kept),
    )


def _between(ordered: Sequence[float], begin: float, end: float) -> int:
    """Return how many starts there were from `begin` on and before `end`; a hair before is not before."""
    return bisect.bisect_left(ordered, end - _HAIR) - bisect.bisect_left(ordered, begin - _HAIR)


def _fullest_of_any_length(pace: Pace, ordered: Sequence[float]) -> float:
    """Return the most that a window of any length had beyond its length's worth, of the burst."""
    each, burst = pace.period / pace.limit, max(pace.burst or 1.0, 1.0)
    peak, lowest = 0.0, math.inf
    for number, at in enumerate(ordered):
        lowest = min(lowest, number - at / each)
        peak = max(peak, number + 1 - at / each - lowest)
    return (peak - _SLACK) / burst


def _fullest_sliding(pace: Pace, ordered: Sequence[float]) -> float:
    return max(_between(ordered, at, at + pace.period) for at in ordered) / pace.limit


def _fullest_fixed(pace: Pace, ordered: Sequence[float]) -> float:
    begins = {math.floor(at / pace.period) * pace.period for at in ordered}
    return max(_between(ordered, begin, begin + pace.period) for begin in begins) / pace.limit


def _arrival_agrees(pace: Pace, ordered: Sequence[float], kept: Any) -> bool:
    each, arrival = pace.period / pace.limit, 0.0
    for start in ordered:
        arrival = max(arrival, start) + each
    # Where hosts or sessions tell the time a little differently, starts were not counted in this order; any other
    # order ends later.
    return -_HAIR < kept - arrival < each


def _windows_agree(pace: Pace, ordered: Sequence[float], kept: Any) -> bool:
    return all(_between(ordered, begin, begin + pace.period) == cost for begin, cost, _ in kept)


def _log_agrees(pace: Pace, ordered: Sequence[float], kept: Any) -> bool:
    (_, oldest, before), (_, _, all_of_them) = kept[0], kept[-1]
    return _between(ordered, oldest + 2 * _HAIR, math.inf) == all_of_them - before


_FULLEST: Mapping[Algorithm, Callable[[Pace, Sequence[float]], float]] = {
    "gcra": _fullest_of_any_length,
    "sliding": _fullest_sliding,
    "fixed": _fullest_fixed,
}
_AGREES: Mapping[Algorithm, Callable[[Pace, Sequence[float], Any], bool]] = {
    "gcra": _arrival_agrees,
    "sliding": _log_agrees,
    "fixed": _windows_agree,
}
