"""The steps, each an update pipeline that MongoDB runs on one document at once; `_limit` says what is in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tasklocks.backends.base import HOLDERS_SHOWN
from tasklocks.backends.mongodb._expressions import (
    EMPTY,
    GONE,
    NOW,
    Step,
    after,
    each,
    if_,
    is_there,
    key_of,
    rows,
    size,
    values,
)
from tasklocks.backends.mongodb._limit import (
    FREE_IF_QUIET,
    drop,
    extended,
    free,
    granted,
    hold_counted_in,
    is_open,
    next_token,
    remember,
    serve,
)
from tasklocks.backends.mongodb._line import ahead, is_behind, left, move_up, places, take_place
from tasklocks.types import AcquireRequest, Place

__all__ = ["EVERYTHING", "acquire", "force_release", "leases_of", "release", "renew"]

EVERYTHING = {"capacity": 1, "leases": 1, "line": 1, "rest": 1, "away": 1, "usual_hold": 1, "now": NOW}
"""The projection that answers an inspection."""

_ENDED = {"_id": 0, "told": 1, "ended": 1, "free": FREE_IF_QUIET}


def acquire(request: AcquireRequest) -> Step:
    """See `Backend.acquire`."""
    lease = f"leases.{key_of(request.owner)}"
    stated = {"capacity": request.capacity, "capacity_was": "$capacity"}
    stages = [{"$set": stated}, drop(), *move_up(), *serve(), _take(lease, request)]
    changed = [lease]
    if request.place is not None:
        stages += take_place(lease, request, request.place)
        changed += places(request.place)
    return Step([*stages, remember(changed)], _lease_or_busy(lease, request.place), make=True)


def renew(owner: str, ttl: float) -> Step:
    """See `Backend.renew`."""
    lease = f"leases.{key_of(owner)}"
    renewed = if_(is_open(lease), extended(lease, ttl), f"${lease}")
    answer = {"_id": 0, "told": 1, "lease": f"${lease}", "free": FREE_IF_QUIET}
    return Step([drop(), *move_up(), *serve(), {"$set": {lease: renewed}}, remember([lease])], answer)


def leases_of(owners: Iterable[str]) -> dict[str, Any]:
    """Return the projection that answers the renewals of many leases."""
    return {"told": 1, **{f"leases.{key_of(owner)}": 1 for owner in owners}}


def release(owner: str, keep: float) -> Step:
    """See `Backend.release`."""
    key = key_of(owner)
    lease = f"leases.{key}"
    closed = {"$mergeObjects": [f"${lease}", {"closed": True, "expires": after(keep)}]} if keep > 0 else GONE
    ended = {
        "ended": if_(is_open(lease), 1, 0),
        "usual_hold": if_(is_open(lease), hold_counted_in(lease), "$usual_hold"),
        lease: if_(is_open(lease), closed, f"${lease}"),
        **left(key),
    }
    return Step([drop(), {"$set": ended}, *move_up(), *serve(), remember([lease])], _ENDED)


def force_release(owner: str | None) -> Step:
    """See `Backend.force_release`."""
    if owner is None:
        ended: dict[str, Any] = {"ended": size("$leases"), "leases": EMPTY}
    else:
        lease = f"leases.{key_of(owner)}"
        ended = {"ended": if_(is_there(f"${lease}"), 1, 0), lease: GONE}
    return Step([drop(), {"$set": ended}, *move_up(), *serve(), remember([])], _ENDED)


def _lease_or_busy(lease: str, place: Place | None) -> dict[str, Any]:
    busy = {
        "now": NOW,
        "ahead": ahead(place),
        "first_ends": {"$min": values("$leases", "expires")},
        "holders": each({"$slice": [rows("$leases"), HOLDERS_SHOWN]}, "$$this.v"),
        "usual_hold": "$usual_hold",
    }
    return {
        "_id": 0,
        "told": 1,
        "capacity_was": 1,
        "lease": f"${lease}",
        "busy": if_(is_open(lease), GONE, busy),
        "free": FREE_IF_QUIET,
    }


def _take(lease: str, request: AcquireRequest) -> dict[str, Any]:
    fits = {
        "$and": [{"$not": is_there(f"${lease}")}, {"$not": is_behind(request)}, {"$lte": [request.permits, free()]}]
    }
    otherwise = if_(is_open(lease), extended(lease, request.ttl), f"${lease}")
    return {"$set": {lease: if_(fits, granted(request), otherwise), "token": if_(fits, next_token(), "$token")}}
