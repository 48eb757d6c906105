"""How long a task that found its limit busy stays away before it asks again.

A fixed countdown wastes both ways: too long, and a free permit lies idle; too short, and every waiter storms broker and
backend. What the backend knows tells better: the place in line and how long a permit is usually held say when the turn
comes; a waiter far back asks again after a part of that time, so the number of its messages grows with the logarithm
of its wait.
"""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

from tenacity import RetryCallState
from tenacity.wait import wait_base

from tasklocks.durations import seconds
from tasklocks.errors import ConfigurationError
from tasklocks.types import Busy

__all__ = ["Countdown", "adaptive", "check_countdown", "seconds_away", "when_unreachable"]

Countdown = float | timedelta | wait_base | Callable[..., float | timedelta]
"""Seconds, a timedelta, or a tenacity wait strategy (called with a `RetryCallState`)."""

SHORTEST = 0.05
LONGEST = 300.0
_GUESS = 0.1  # the usual hold of a limit of which nothing is known yet; doubled with each wait
_BELIEVED = 3.0  # seconds of an estimate that are believed at once
_EARLY = 0.7  # the part of a long estimate after which to look again


def check_countdown(countdown: Any, where: str) -> Countdown | None:
    """Return `countdown` if it can say how long to stay away; else raise `ConfigurationError`."""
    if countdown is None:
        return None
    if callable(countdown) and _takes_state(countdown):
        return cast(Countdown, countdown)
    if isinstance(countdown, (int, float, timedelta)):
        return seconds(countdown, setting=f"{where}: countdown")
    raise ConfigurationError(
        f"{where}: countdown must be seconds, a timedelta or a tenacity wait strategy, not {countdown!r}"
    )


def _takes_state(strategy: Callable[..., Any]) -> bool:
    """Tell whether a strategy can be called with a `RetryCallState`: a class of strategies cannot, its instance can."""
    try:
        inspect.signature(strategy).bind(None)
    except TypeError:
        return False
    except ValueError:
        pass  # written in C, without a signature
    return not isinstance(strategy, type)


def seconds_away(
    countdown: Countdown | None, busy: Busy | None, waits: int, permits: int, where: str, *, waited: float = math.inf
) -> float:
    """Return for how long to stay away, in seconds.

    Args:
        countdown: what the user asked for; None: adaptive.
        busy: what the backend said; None if it did not answer.
        waits: how many times the task stayed away already.
        permits: how many permits it needs.
        where: the task, for errors.
        waited: seconds since it first found its limit busy.

    Raises:
        ConfigurationError: the user's strategy answers something that is no time to wait.
    """
    if countdown is None:
        return when_unreachable(waits) if busy is None else adaptive(busy, waits, permits, waited)
    if callable(countdown):
        answer = countdown(_tenacity_state(waits))
        return max(0.0, seconds(answer, setting=f"{where}: what countdown answers", minimum=-math.inf))
    return seconds(countdown, setting=f"{where}: countdown")


def adaptive(busy: Busy, waits: int, permits: int, waited: float = math.inf) -> float:
    """Return an estimate of the time until the turn of a waiter comes, in seconds, with jitter.

    An estimate far beyond what the task has `waited` so far (in seconds) is not believed: one unusually long hold would
    send a whole line away for minutes. So a wrong one costs as much time as was waited already, and the number of
    looks still grows with the logarithm of the wait.
    """
    hold = busy.usual_hold if busy.usual_hold is not None else _guess(busy, waits)
    lanes = max(1, busy.capacity // max(1, permits))
    turn = hold * (busy.ahead // lanes) + _first_end(busy, hold)
    early = _EARLY if busy.ahead >= lanes else 1.0
    believed = min(turn * early, max(waited, _BELIEVED))
    return min(max(believed * random.uniform(0.85, 1.15), SHORTEST), LONGEST)  # noqa: S311 - no secret


def when_unreachable(waits: int) -> float:
    """Return how long to leave a backend alone that did not answer: exponential, with jitter, in seconds."""
    return random.uniform(0.5, 1.0) * min(2.0 ** min(waits, 10), 30.0)  # noqa: S311 - no secret


def _guess(busy: Busy, waits: int) -> float:
    guess: float = _GUESS * 2 ** min(waits, 8)
    return guess if busy.retry_after is None else min(guess, busy.retry_after)


def _first_end(busy: Busy, hold: float) -> float:
    """Estimate when the first of the permits comes free."""
    if not busy.holders:
        return hold
    held = max(busy.server_time - holder.since for holder in busy.holders)
    if held < hold:
        return max(hold - held, hold / 4)
    # Over its usual time: it may end at any moment, take much longer, or be dead. Looking again after a part of what it
    # took beyond makes few looks of a long wait; a dead one's lease ends at retry_after.
    longer = max(hold / 4, (held - hold) / 2)
    return longer if busy.retry_after is None else min(longer, busy.retry_after)


def _tenacity_state(waits: int) -> RetryCallState:
    state = RetryCallState(retry_object=None, fn=None, args=(), kwargs={})  # type: ignore[arg-type]  # strategies read the attempt only
    state.attempt_number = waits + 1
    return state
