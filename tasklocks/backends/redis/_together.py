"""A lock and starts at several rates in one script.

A start that a script cannot reckon (in a pause, or by a calendar) is reckoned here, and the script sets it if nobody
was faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tasklocks import clock
from tasklocks.backends.base import RETENTION
from tasklocks.backends.redis._rates import way_to_reserve
from tasklocks.backends.redis._scripts import TAKE_ALL, packed
from tasklocks.backends.redis._texts import FIRST_PAUSE, Run, pause_after, read, text_keys
from tasklocks.rates import RateState
from tasklocks.types import Busy, Grant, Refused, ReserveRequest, Slot, Taken

__all__ = ["Wanted", "take_all"]

_REFUSED, _AGAIN = 1, 2
_NO_LEASE = [2]

Way = tuple[str, Sequence[object]]
"""How a start is counted, and the arguments of the script that does it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A lock.

    Attributes:
        keys: its keys.
        args: the arguments of the script that takes it.
        read: from that script's answer, and the local clock before it was asked, to what it means.
    """

    keys: Sequence[str]
    args: Sequence[object]
    read: Callable[[list[Any], float], Grant | Busy]


def take_all(
    run: Run, lock: Wanted, rates: Sequence[ReserveRequest], roots: Sequence[str], within: float
) -> Taken | Busy | Refused:
    """See `Backend.take_all`; `roots` are the rates' keys without their last part."""
    count, texts = len(lock.keys) + len(roots), text_keys(roots)
    keys = packed([count, *lock.keys, *(f"{root}:text" for root in roots)])
    ways, pause = _ways(rates) or _reckoned(run, texts, rates), FIRST_PAUSE
    while True:
        asked_at = clock.now()
        args = [repr(within), len(lock.args), *lock.args, *(part for way in ways for part in _flat(way))]
        kind, *answer = run((TAKE_ALL, keys, count, args))
        if kind != _AGAIN:
            return _read(kind, answer, lock, rates, asked_at)
        pause = pause_after(pause)
        ways = _reckoned(run, texts, rates)


def _ways(rates: Sequence[ReserveRequest]) -> list[Way]:
    """Return how a script reckons each start; none if it cannot do all."""
    ways: list[Way] = [way for way in map(way_to_reserve, rates) if way is not None]
    return ways if len(ways) == len(rates) else []


def _flat(way: Way) -> tuple[object, ...]:
    name, args = way
    return (name, len(args), *args)


def _reckoned(run: Run, texts: bytes, rates: Sequence[ReserveRequest]) -> list[Way]:
    """Return the starts as they are if nobody is faster."""
    found, now = read(run, texts, len(rates))
    return [("given", _given(rate, text, now)) for rate, text in zip(rates, found, strict=True)]


def _given(rate: ReserveRequest, text: str, now: float) -> tuple[object, ...]:
    state = RateState.read(text)
    answer = state.reserve(rate.paces, rate.cost, now, rate.max_wait)
    if isinstance(answer, Refused):
        return text, text, 0, "", repr(answer.wait)
    keep = max(1, round((state.lasts(now) + RETENTION) * 1000))
    return text, state.written(), keep, repr(answer.start)


def _read(
    kind: int, answer: list[Any], lock: Wanted, rates: Sequence[ReserveRequest], asked_at: float
) -> Taken | Busy | Refused:
    if kind == _REFUSED:
        number, wait = answer
        return Refused(float(wait), rates[number].name)
    lease, *moments = answer
    granted = None if lease == _NO_LEASE else lock.read(lease, asked_at)
    if isinstance(granted, Busy):
        return granted
    starts, nows = map(float, moments[::2]), map(float, moments[1::2])
    return Taken(
        granted, tuple(Slot(start, now, max(0.0, start - now)) for start, now in zip(starts, nows, strict=True))
    )
