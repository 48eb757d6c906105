"""The steps, each an update pipeline that MongoDB runs on one document at once; `_limit` says what is in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tasklocks.backends.base import GRANT_TTL, HOLDERS_SHOWN
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
    let,
    rows,
    size,
    values,
)
from tasklocks.backends.mongodb._limit import (
    AWAY_KEPT,
    FREE_IF_QUIET,
    LINE_KEPT,
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
from tasklocks.types import AcquireRequest, Place

__all__ = ["EVERYTHING", "acquire", "force_release", "leases_of", "release", "renew"]

EVERYTHING = {"capacity": 1, "leases": 1, "line": 1, "away": 1, "usual_hold": 1, "now": NOW}
"""The projection that answers an inspection."""

_ENDED = {"_id": 0, "told": 1, "ended": 1, "free": FREE_IF_QUIET}


def acquire(request: AcquireRequest) -> Step:
    """See `Backend.acquire`."""
    lease = f"leases.{key_of(request.owner)}"
    stated = {"capacity": request.capacity, "capacity_was": "$capacity"}
    stages = [{"$set": stated}, drop(), *serve(), _take(lease, request)]
    changed = [lease]
    if request.place is not None:
        place = f"{_line_of(request.place)}.{key_of(request.place.ticket)}"
        stages.append(_take_place(place, lease, request, request.place))
        changed.append(place)
    return Step([*stages, remember(changed)], _lease_or_busy(lease, request.place), make=True)


def renew(owner: str, ttl: float) -> Step:
    """See `Backend.renew`."""
    lease = f"leases.{key_of(owner)}"
    renewed = if_(is_open(lease), extended(lease, ttl), f"${lease}")
    answer = {"_id": 0, "told": 1, "lease": f"${lease}", "free": FREE_IF_QUIET}
    return Step([drop(), *serve(), {"$set": {lease: renewed}}, remember([lease])], answer)


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
        f"line.{key}": GONE,
    }
    return Step([drop(), {"$set": ended}, *serve(), remember([lease])], _ENDED)


def force_release(owner: str | None) -> Step:
    """See `Backend.force_release`."""
    if owner is None:
        ended: dict[str, Any] = {"ended": size("$leases"), "leases": EMPTY}
    else:
        lease = f"leases.{key_of(owner)}"
        ended = {"ended": if_(is_there(f"${lease}"), 1, 0), lease: GONE}
    return Step([drop(), {"$set": ended}, *serve(), remember([])], _ENDED)


def _lease_or_busy(lease: str, place: Place | None) -> dict[str, Any]:
    busy = {
        "now": NOW,
        "ahead": _ahead(place),
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
    nobody_in_front = {"$eq": ["$line", EMPTY]}
    fits = {"$and": [{"$not": is_there(f"${lease}")}, nobody_in_front, {"$lte": [request.permits, free()]}]}
    otherwise = if_(is_open(lease), extended(lease, request.ttl), f"${lease}")
    return {"$set": {lease: if_(fits, granted(request), otherwise), "token": if_(fits, next_token(), "$token")}}


def _take_place(place: str, lease: str, request: AcquireRequest, asked: Place) -> dict[str, Any]:
    row = {
        "ticket": {"$literal": asked.ticket},
        "permits": request.permits,
        "ttl": min(request.ttl, GRANT_TTL),
        "since": {"$ifNull": [f"${place}.since", NOW]},
        "until": after(asked.keep),
        "info": {"$literal": request.info},
        "address": {"$literal": asked.address},
    }
    line, most = ("away", AWAY_KEPT) if asked.address is None else ("line", LINE_KEPT)
    has_room = {"$or": [is_there(f"${place}"), {"$lt": [size(f"${line}"), most]}]}
    return {"$set": {place: if_(is_open(lease), GONE, if_(has_room, row, GONE))}}


def _line_of(place: Place) -> str:
    return "away" if place.address is None else "line"


def _ahead(place: Place | None) -> dict[str, Any]:
    listening, away = size("$line"), size("$away")
    if place is None:
        return {"$add": [listening, away]}
    own = _before(_line_of(place), key_of(place.ticket))
    return own if place.address is not None else {"$add": [listening, own]}


def _before(line: str, key: str) -> dict[str, Any]:
    number = if_({"$gte": ["$$number", 0]}, "$$number", {"$size": "$$keys"})
    keys = each(rows(f"${line}"), "$$this.k")
    return let({"keys": keys}, let({"number": {"$indexOfArray": ["$$keys", key]}}, number))
