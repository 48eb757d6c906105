"""Shorter steps for a limit for which nobody listens at the moment, as for most limits most of the time.

MongoDB reads a pipeline anew each time, and that of a full step takes it longer than the rest of the work. A quick step
does the same where there is nothing to settle, and nothing at all elsewhere: then the full step is asked for.
"""

from __future__ import annotations

import math
from typing import Any

from tasklocks import clock
from tasklocks.backends.base import GRANT_TTL, RETENTION
from tasklocks.backends.mongodb._expressions import (
    EMPTY,
    GONE,
    NOW,
    Step,
    after,
    as_object,
    if_,
    is_there,
    key_of,
    let,
    rows,
    size,
)
from tasklocks.backends.mongodb._limit import (
    FREE_IF_QUIET,
    free,
    granted,
    hold_counted_in,
    is_open,
    lease_of,
    next_token,
)
from tasklocks.backends.mongodb._line import FEWEST, LINE_KEPT
from tasklocks.types import AcquireRequest

__all__ = ["Quiet", "acquire", "hand_on", "release"]

_REMEMBERED = 10_000
_MOMENT = 0.02


class Quiet:
    """How many permits are probably free, of the limits for which nobody listened when this process last looked.

    A quick step that turns out vain costs a round trip more. So a lease that was held for a while is released by one
    that hands on, too: somebody may stand in line by now.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def has(self, name: str, permits: int) -> bool:
        """Tell whether so many permits are free, as far as known."""
        return self._seen.get(name, (-1, 0.0))[0] >= permits

    def is_fresh(self, name: str) -> bool:
        """Tell whether nobody listened a moment ago."""
        return clock.now() - self._seen.get(name, (0, -math.inf))[1] < _MOMENT

    def note(self, name: str, free: int | None) -> None:
        """Remember how many are free; None if somebody listens, or there is no such limit."""
        if free is None:
            self._seen.pop(name, None)
            return
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[name] = free, clock.now()

    def change(self, name: str, by: int) -> None:
        """Remember that so many more are free now."""
        free, _ = self._seen.get(name, (0, 0.0))
        self.note(name, free + by)


def acquire(request: AcquireRequest) -> Step:
    """Take free permits of a limit for which nobody listens; the answer has a lease if that is how it is."""
    key, end = key_of(request.owner), after(request.ttl)
    nobody_there = {"$and": [{"$eq": ["$leases", EMPTY]}, {"$eq": ["$away", EMPTY]}]}
    free_for_it = [
        {"$eq": ["$capacity", request.capacity]},
        {"$eq": ["$line", EMPTY]},
        {"$not": is_there(f"$leases.{key}")},
        {"$or": [nobody_there, {"$gt": ["$over_at", NOW]}]},
        {"$gt": ["$forget_at", after(request.ttl + RETENTION)]},
        {"$lte": [request.permits, free()]},
    ]
    taken: dict[str, Any] = {
        "leases": {"$mergeObjects": ["$leases", {key: granted(request)}]},
        "token": next_token(),
        "over_at": {"$min": ["$over_at", end]},
    }
    if request.place is not None:
        taken["away"] = _without(key_of(request.place.ticket), "$away")
    lease = f"$leases.{key}"
    # It is ours if it ends when we asked for, whoever asked.
    answer = {"_id": 0, "lease": if_({"$eq": [f"{lease}.expires", end]}, lease, GONE)}
    return Step([_merged(if_({"$and": free_for_it}, taken, None))], answer)


def release(owner: str) -> Step:
    """End a live lease of a limit for which nobody listens; the answer says whether that is how it is."""
    key = key_of(owner)
    lease = f"leases.{key}"
    ours_alone = [{"$eq": ["$line", EMPTY]}, {"$gt": [f"${lease}.expires", NOW]}, is_open(lease)]
    ended = {"leases": _without(key, "$leases"), "usual_hold": hold_counted_in(lease), "ended": 1}
    return Step([_merged(if_({"$and": ours_alone}, ended, {"ended": 0}))], {"_id": 0, "ended": 1})


def hand_on(owner: str) -> Step:
    """End a live lease and grant to the head of the line, if nothing else is to be done."""
    key = key_of(owner)
    lease = f"leases.{key}"
    let_go = {"leases": _without(key, "$leases"), "usual_hold": hold_counted_in(lease), "ended": 1, "told": []}
    settled = [
        is_open(lease),
        {"$gt": ["$over_at", NOW]},
        {"$gt": ["$forget_at", after(GRANT_TTL + RETENTION)]},
        {"$or": [{"$eq": ["$rest", EMPTY]}, {"$gt": [size("$line"), FEWEST]}]},
    ]
    left = {"$add": [free(), f"${lease}.permits"]}
    served = let({"rows": rows("$line"), "left": left}, _head_served(let_go))
    handed = if_({"$eq": ["$line", EMPTY]}, let_go, served)
    changes = if_({"$and": settled}, handed, {"ended": 0})
    return Step([_merged(changes)], {"_id": 0, "ended": 1, "told": 1, "free": FREE_IF_QUIET})


def _head_served(let_go: dict[str, Any]) -> dict[str, Any]:
    """Serve the head if it fits and the next one then does not: `rows` are the line, `left` the permits for it."""
    behind_head = {"$subtract": ["$$left", "$$head.v.permits"]}
    no_other = {"$or": [{"$eq": [{"$size": "$$rows"}, 1]}, {"$gt": ["$$next.v.permits", behind_head]}]}
    alone = {"$and": [{"$lte": ["$$head.v.permits", "$$left"]}, no_other]}
    served = {
        **let_go,
        "leases": {"$mergeObjects": [let_go["leases"], as_object([["$$granted"]])]},
        "line": as_object({"$slice": ["$$rows", 1, LINE_KEPT]}),
        "token": "$$granted.v.token",
        "over_at": {"$min": ["$over_at", "$$granted.v.expires"]},
        "told": ["$$granted"],
    }
    ends = {"head": {"$arrayElemAt": ["$$rows", 0]}, "next": {"$arrayElemAt": ["$$rows", 1]}}
    granted = let({"granted": lease_of("$$head", next_token())}, served)
    return let(ends, if_(alone, granted, {"ended": 0}))


def _merged(changes: dict[str, Any]) -> dict[str, Any]:
    # One stage and one condition: each costs the server more than what is in it.
    return {"$replaceWith": {"$mergeObjects": ["$$ROOT", changes]}}


def _without(key: str, rows: str) -> dict[str, Any]:
    return {"$unsetField": {"field": key, "input": rows}}
