"""Rate limits as the page shows them: what is booked, what a window has used, and pauses.

A backend keeps what was counted, not what is allowed: the rate stands in the code. So the page says how far ahead the
starts of an even pace are reserved, and how much of its window a quota has counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tasklocks.rates import RateState
from tasklocks.web.hiding import Shown

__all__ = ["rate_lines"]

_SHOWN = 500


def rate_lines(texts: Mapping[str, str], at: float, shown: Shown) -> list[dict[str, Any]]:
    """Return a line for each rate limit: the paused ones first, then those that are booked furthest ahead."""
    states = ((name, _state(text)) for name, text in texts.items())
    lines = [_line(shown(name), state, at) for name, state in states if state is not None]
    return sorted(lines, key=lambda line: (-line["paused"], -line["booked"], line["name"]))[:_SHOWN]


def _state(text: str) -> RateState | None:
    try:
        # Other texts, such as a beat's book, are objects.
        return RateState.read(text) if isinstance(json.loads(text), list) else None
    except (ValueError, TypeError):
        return None


def _line(name: str, state: RateState, at: float) -> dict[str, Any]:
    line = {
        "name": name,
        "algorithm": state.algorithm,
        "paused": round(max(0.0, state.paused_until - at), 1),
        "booked": 0.0,
        "used": None,
    }
    try:
        return line | _counted(state, at)
    except (TypeError, ValueError, IndexError):
        # What a later version counts in another way is no reason to show nothing.
        return line


def _counted(state: RateState, at: float) -> dict[str, Any]:
    counted = [each for each in state.counted if each]
    if state.algorithm == "gcra":
        return {"booked": _ahead(max(counted, default=0.0), at)}
    if state.algorithm == "sliding":
        return {
            "booked": _ahead(max((each[-1][1] for each in counted), default=0.0), at),
            "used": _in_window(state, at),
        }
    windows = [each for pace in counted for each in pace]
    used = {begin: cost for begin, cost, _ in windows if begin <= at < state.ends}
    newest = max(used, default=0.0)
    return {"booked": _ahead(max((last for _, _, last in windows), default=0.0), at), "used": used.get(newest, 0)}


def _in_window(state: RateState, at: float) -> float | None:
    """Return what one sliding window counts, with what is reserved ahead; None: nobody can tell."""
    if len(state.counted) != 1 or state.owed:
        # Several windows differ, and what a pause moves is moved by who reserves next.
        return None
    starts = state.counted[0]
    if not starts:
        return 0.0
    period = state.ends - starts[-1][1]
    gone = max((total for _, last, total in starts if last <= at - period), default=0.0)
    return round(float(starts[-1][2] - gone), 3)


def _ahead(moment: float, at: float) -> float:
    return round(max(0.0, float(moment) - at), 1)
