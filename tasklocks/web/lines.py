"""The list of limits: what a line shows, which lines a search finds, and the order: trouble first."""

from __future__ import annotations

import fnmatch
import heapq
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tasklocks.types import LimitState
from tasklocks.web.hiding import Shown
from tasklocks.web.snapshot import Snapshot

__all__ = ["ORDERS", "PAGE", "Found", "Query", "found", "held", "kind", "line", "most_troubled"]

PAGE = 50
"""Lines on a page."""

_ID = 6  # from so many characters on a search also looks for task ids that begin so


@dataclass(frozen=True, slots=True)
class Query:
    """What a viewer wants to see of the list.

    Attributes:
        text: a part of the name, or a pattern with `*` and `?`; or the beginning of a task's id. Empty: all.
        order: one of `ORDERS`.
        page: from 0 on.
        idle: also limits that nobody uses now but that are not forgotten yet.
    """

    text: str = ""
    order: str = "trouble"
    page: int = 0
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """One page of an answer, and of how many limits it is a part."""

    states: tuple[LimitState, ...]
    found: int
    total: int


def held(state: LimitState) -> int:
    """Return how many permits are held."""
    return sum(each.permits for each in state.holders)


def kind(state: LimitState) -> str:
    """Return what people call it."""
    return "mutex" if state.capacity == 1 else "semaphore"


def line(state: LimitState) -> dict[str, Any]:
    """Return what a line shows; nothing that changes by itself while time goes on."""
    return {
        "kind": kind(state),
        "capacity": state.capacity,
        "held": held(state),
        "holders": len(state.holders),
        "waiters": len(state.waiters),
        "since": _begin(state) if state.holders else None,
        "usual": None if state.usual_hold is None else float(f"{state.usual_hold:.2g}"),
    }


def found(snapshot: Snapshot, query: Query, shown: Shown) -> Found:
    """Return the page of limits that the query asks for."""
    used = [each for each in snapshot.limits.values() if query.idle or each.holders or each.waiters]
    matches = _matcher(query.text.strip(), shown)
    hits = [each for each in used if matches(each)]
    end = (query.page + 1) * PAGE
    return Found(tuple(heapq.nsmallest(end, hits, ORDERS[query.order])[end - PAGE :]), len(hits), len(used))


def most_troubled(snapshot: Snapshot, most: int) -> list[LimitState]:
    """Return the limits that are in use, those with trouble first."""
    used = (each for each in snapshot.limits.values() if each.holders or each.waiters)
    return heapq.nsmallest(most, used, ORDERS["trouble"])


def _begin(state: LimitState) -> float:
    # Where a backend tells ages, not moments, the rest differs from look to look.
    return round(min((each.since for each in state.holders), default=math.inf), 1)


ORDERS: Mapping[str, Callable[[LimitState], Any]] = {
    "trouble": lambda state: (held(state) <= state.capacity, -len(state.waiters), _begin(state), state.name),
    "hold": lambda state: (_begin(state), state.name),
    "held": lambda state: (-held(state), state.name),
    "name": lambda state: state.name,
}
"""By what the list is sorted: what each limit comes by, the smallest first."""


def _matcher(text: str, shown: Shown) -> Callable[[LimitState], bool]:
    if not text:
        return lambda state: True
    wanted = text.casefold()
    if "*" in text or "?" in text:
        return lambda state: fnmatch.fnmatchcase(shown(state.name).casefold(), wanted)
    # As `tasklocks.who` writes it.
    an_id = f'"id":"{text}'
    return lambda state: wanted in shown(state.name).casefold() or (len(text) >= _ID and _is_about(state, an_id))


def _is_about(state: LimitState, an_id: str) -> bool:
    return any(an_id in each.info for each in state.holders) or any(an_id in each.info for each in state.waiters)
