"""What a rate limit's state tells people: how far ahead starts are reserved, what a window has used, and pauses.

A backend keeps what was counted, not what is allowed: the rate stands in the code. So this says how far ahead
the starts of an even pace are reserved, and how much of its window a quota has counted.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from tasklocks.rates import RateState
from tasklocks.views import RateView

__all__ = ["rate_state", "rate_view"]


def rate_state(text: str) -> RateState | None:
    """Return the rate limit that a text is about; None: it is about something else."""
    try:
        # Other texts, such as a beat's book, are objects.
        return RateState.read(text) if isinstance(json.loads(text), list) else None
    except (ValueError, TypeError):
        return None


def rate_view(name: str, text: str, now: float) -> RateView | None:
    """Return a rate limit as people see it at `now`, the backend's clock; None: the text is about something else."""
    state = rate_state(text)
    if state is None:
        return None
    known = RateView(name, "rate", max(0.0, state.paused_until - now), state.algorithm)
    try:
        booked, used = _counted(state, now)
    except (TypeError, ValueError, IndexError):
        # What a later version counts in another way is no reason to show nothing.
        return known
    return dataclasses.replace(known, booked_for=max(0.0, float(booked) - now), used=used)


def _counted(state: RateState, now: float) -> tuple[float, float | None]:
    """Return the moment up to which starts are reserved, and what the window of now has counted."""
    counted = [each for each in state.counted if each]
    if state.algorithm == "gcra":
        return max(counted, default=0.0), None
    if state.algorithm == "sliding":
        return max((each[-1][1] for each in counted), default=0.0), _in_window(state, now)
    windows = [each for pace in counted for each in pace]
    used = {begin: cost for begin, cost, _ in windows if begin <= now < state.ends}
    return max((last for _, _, last in windows), default=0.0), used.get(max(used, default=0.0), 0.0)


def _in_window(state: RateState, now: float) -> float | None:
    """Return what one sliding window counts, with what is reserved ahead; None: nobody can tell."""
    if len(state.counted) != 1 or state.owed:
        # Several windows differ, and what a pause moves is moved by who reserves next.
        return None
    starts: list[Any] = state.counted[0]
    if not starts:
        return 0.0
    period = state.ends - starts[-1][1]
    gone = max((total for _, last, total in starts if last <= now - period), default=0.0)
    return round(float(starts[-1][2] - gone), 3)
