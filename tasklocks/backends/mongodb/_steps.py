"""The steps as update pipelines: what MongoDB does to the one document of a limit, all at once.

The document. Its rows are in the order in which they came, for objects keep it; a row's key is a digest of its owner
or ticket:

    _id: prefix and name          capacity, capacity_was: as stated last, and before
    token: the last one           usual_hold: seconds, moving average
    leases.<key>: owner, permits, token, since, expires, info; closed; address
    line.<key>, away.<key>: ticket, permits, ttl, since, until, info; address
    told: rows of `leases` that the last step granted from the line
    ended: how many leases the last release ended
    over_at: nothing is over before                 forget_at: the TTL index deletes the document then

Rows are objects, not arrays, for the replicas' sake: they are sent the difference, and an array without its first
element differs in every element. What a caller says goes through `$literal`: it might look like an expression.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bson.int64 import Int64

from tasklocks.backends.base import GRANT_TTL, HOLD_WEIGHT, HOLDERS_SHOWN, RETENTION
from tasklocks.backends.mongodb._expressions import (
    EMPTY,
    GONE,
    NOW,
    after,
    as_object,
    each,
    if_,
    is_there,
    key_of,
    rows,
    size,
    values,
)
from tasklocks.types import AcquireRequest, Place

__all__ = [
    "AWAY_KEPT",
    "ENDED",
    "EVERYTHING",
    "LINE_KEPT",
    "Stages",
    "acquire",
    "acquire_answer",
    "force_release",
    "lease_of",
    "release",
    "renew",
]

Stages = list[dict[str, Any]]

ENDED = {"_id": 0, "told": 1, "ended": 1}
"""The projection that answers a release."""

EVERYTHING = {"capacity": 1, "leases": 1, "line": 1, "away": 1, "usual_hold": 1, "now": NOW}
"""The projection that answers an inspection."""

LINE_KEPT = 10_000
"""How many listening waiters a limit keeps in order; further ones look again until there is room."""

AWAY_KEPT = 1000
"""How many places of waiters that are away a limit keeps; further ones are not counted."""

_SERVED_AT_ONCE = 1000
_GRID = 600_000  # ms; `forget_at` moves in such steps, so that few steps touch its index


def acquire(request: AcquireRequest) -> Stages:
    """See `Backend.acquire`."""
    lease = f"leases.{key_of(request.owner)}"
    stated = {"capacity": request.capacity, "capacity_was": "$capacity"}
    changed = [lease]
    stages = [{"$set": stated}, _drop(), *_serve(), _take(lease, request)]
    if request.place is not None:
        place = f"{_line_of(request.place)}.{key_of(request.place.ticket)}"
        stages.append(_take_place(place, lease, request, request.place))
        changed.append(place)
    return [*stages, _remember(changed)]


def renew(owner: str, ttl: float) -> Stages:
    """See `Backend.renew`."""
    lease = f"leases.{key_of(owner)}"
    extended = if_(_is_open(lease), _extended(lease, ttl), f"${lease}")
    return [_drop(), *_serve(), {"$set": {lease: extended}}, _remember([lease])]


def release(owner: str, keep: float) -> Stages:
    """See `Backend.release`."""
    key = key_of(owner)
    lease = f"leases.{key}"
    closed = {"$mergeObjects": [f"${lease}", {"closed": True, "expires": after(keep)}]} if keep > 0 else GONE
    ended = {
        "ended": if_(_is_open(lease), 1, 0),
        "usual_hold": if_(_is_open(lease), _with_hold_of(lease), "$usual_hold"),
        lease: if_(_is_open(lease), closed, f"${lease}"),
        f"line.{key}": GONE,
    }
    return [_drop(), {"$set": ended}, *_serve(), _remember([lease])]


def force_release(owner: str | None) -> Stages:
    """See `Backend.force_release`."""
    if owner is None:
        ended: dict[str, Any] = {"ended": size("$leases"), "leases": EMPTY}
    else:
        lease = f"leases.{key_of(owner)}"
        ended = {"ended": if_(is_there(f"${lease}"), 1, 0), lease: GONE}
    return [_drop(), {"$set": ended}, *_serve(), _remember([])]


def acquire_answer(request: AcquireRequest) -> dict[str, Any]:
    """Return the projection that answers an acquire: the lease, or what a busy answer says."""
    lease = f"leases.{key_of(request.owner)}"
    busy = {
        "now": NOW,
        "ahead": _ahead(request.place),
        "first_ends": {"$min": values("$leases", "expires")},
        "holders": {"$slice": [values("$leases"), HOLDERS_SHOWN]},
        "usual_hold": "$usual_hold",
    }
    told = {"_id": 0, "told": 1, "capacity_was": 1}
    return {**told, "lease": f"${lease}", "busy": if_(_is_open(lease), GONE, busy)}


def lease_of(owner: str) -> dict[str, Any]:
    """Return the projection that answers a renewal."""
    return {"_id": 0, "told": 1, "lease": f"$leases.{key_of(owner)}"}


def _drop() -> dict[str, Any]:
    """Drop what is over; before `over_at` nothing is, so most steps need not look at each row."""
    fields = (("leases", "expires"), ("line", "until"), ("away", "until"))
    return {"$set": {field: if_(_some_are_over(), _live(field, end), _or_empty(field)) for field, end in fields}}


def _some_are_over() -> dict[str, Any]:
    return {"$and": [is_there("$over_at"), {"$lte": ["$over_at", NOW]}]}


def _live(field: str, end: str) -> dict[str, Any]:
    lasting = {"$gt": [f"$$this.v.{end}", NOW]}
    return as_object({"$filter": {"input": rows(_or_empty(field)), "cond": lasting}})


def _or_empty(field: str) -> Any:
    return {"$ifNull": [f"${field}", EMPTY]}


def _serve() -> Stages:
    """Grant to the head of the line, in order, until it does not fit."""
    count = {"$size": "$told"}
    nobody = {"$eq": ["$told", []]}
    rest = {"$slice": [rows("$line"), count, LINE_KEPT]}
    return [
        {"$set": {"told": _heads_that_fit()}},
        {
            "$set": {
                "told": each({"$range": [0, count]}, _lease_of_head(), "number"),
                "line": if_(nobody, "$line", as_object(rest)),
                "token": if_(nobody, "$token", {"$add": [_next_token(), count, -1]}),
            }
        },
        {"$set": {"leases": if_(nobody, "$leases", {"$mergeObjects": ["$leases", as_object("$told")]})}},
    ]


def _heads_that_fit() -> dict[str, Any]:
    fits = {"$lte": ["$$this.v.permits", "$$value.free"]}
    # Once one does not fit, nothing is free for those behind it.
    free = if_(fits, {"$subtract": ["$$value.free", "$$this.v.permits"]}, 0)
    count = if_(fits, {"$add": ["$$value.count", 1]}, "$$value.count")
    served = {
        "$reduce": {
            "input": "$$heads",
            "initialValue": {"count": 0, "free": "$$free"},
            "in": {"count": count, "free": free},
        }
    }
    heads = {"$slice": [rows("$line"), {"$min": ["$$free", _SERVED_AT_ONCE]}]}
    fitting = {"$slice": ["$$heads", 0, {"$max": [1, "$$served.count"]}]}
    chosen = {"$let": {"vars": {"served": served}, "in": if_({"$gt": ["$$served.count", 0]}, fitting, [])}}
    looked = {"$let": {"vars": {"heads": heads}, "in": chosen}}
    somebody = {"$and": [{"$ne": ["$line", EMPTY]}, {"$gt": ["$$free", 0]}]}
    return {"$let": {"vars": {"free": _free()}, "in": if_(somebody, looked, [])}}


def _lease_of_head() -> dict[str, Any]:
    lease = {
        "owner": "$$head.v.ticket",
        "permits": "$$head.v.permits",
        "token": {"$add": [_next_token(), "$$number"]},
        "since": NOW,
        "expires": {"$min": [after(GRANT_TTL), {"$add": [NOW, {"$multiply": ["$$head.v.ttl", 1000]}, 1]}]},
        "info": "$$head.v.info",
        "address": "$$head.v.address",
    }
    row = {"k": "$$head.k", "v": lease}
    return {"$let": {"vars": {"head": {"$arrayElemAt": ["$told", "$$number"]}}, "in": row}}


def _free() -> dict[str, Any]:
    return {"$subtract": ["$capacity", {"$sum": values("$leases", "permits")}]}


def _next_token() -> dict[str, Any]:
    # The server's time keeps tokens growing even if the document was deleted meanwhile.
    microseconds = {"$multiply": [{"$toLong": NOW}, Int64(1000)]}
    return {"$max": [{"$add": [{"$ifNull": ["$token", Int64(0)]}, 1]}, microseconds]}


def _take(lease: str, request: AcquireRequest) -> dict[str, Any]:
    granted = {
        "owner": {"$literal": request.owner},
        "permits": request.permits,
        "token": _next_token(),
        "since": NOW,
        "expires": after(request.ttl),
        "info": {"$literal": request.info},
    }
    nobody_in_front = {"$eq": ["$line", EMPTY]}
    fits = {"$and": [{"$not": is_there(f"${lease}")}, nobody_in_front, {"$lte": [request.permits, _free()]}]}
    otherwise = if_(_is_open(lease), _extended(lease, request.ttl), f"${lease}")
    return {"$set": {lease: if_(fits, granted, otherwise), "token": if_(fits, _next_token(), "$token")}}


def _is_open(lease: str) -> dict[str, Any]:
    return {"$and": [is_there(f"${lease}"), {"$ne": [f"${lease}.closed", True]}]}


def _extended(lease: str, ttl: float) -> dict[str, Any]:
    return {"$mergeObjects": [f"${lease}", {"expires": after(ttl)}]}


def _take_place(place: str, lease: str, request: AcquireRequest, asked: Place) -> dict[str, Any]:
    row = {
        "ticket": {"$literal": asked.ticket},
        "permits": request.permits,
        "ttl": request.ttl,
        "since": {"$ifNull": [f"${place}.since", NOW]},
        "until": after(asked.keep),
        "info": {"$literal": request.info},
        "address": {"$literal": asked.address},
    }
    line, most = ("away", AWAY_KEPT) if asked.address is None else ("line", LINE_KEPT)
    has_room = {"$or": [is_there(f"${place}"), {"$lt": [size(f"${line}"), most]}]}
    return {"$set": {place: if_(_is_open(lease), GONE, if_(has_room, row, GONE))}}


def _line_of(place: Place) -> str:
    return "away" if place.address is None else "line"


def _ahead(place: Place | None) -> dict[str, Any]:
    listening, away = size("$line"), size("$away")
    if place is None:
        return {"$add": [listening, away]}
    own = _before(_line_of(place), key_of(place.ticket))
    return own if place.address is not None else {"$add": [listening, own]}


def _before(line: str, key: str) -> dict[str, Any]:
    keys = each(rows(f"${line}"), "$$this.k")
    number = {"$indexOfArray": ["$$keys", key]}
    found = if_({"$gte": ["$$number", 0]}, "$$number", {"$size": "$$keys"})
    return {"$let": {"vars": {"keys": keys}, "in": {"$let": {"vars": {"number": number}, "in": found}}}}


def _with_hold_of(lease: str) -> dict[str, Any]:
    hold = {"$max": [0, {"$divide": [{"$subtract": [NOW, f"${lease}.since"]}, 1000]}]}
    average = {"$ifNull": ["$usual_hold", hold]}
    return {"$add": [average, {"$multiply": [HOLD_WEIGHT, {"$subtract": [hold, average]}]}]}


def _remember(changed: Sequence[str]) -> dict[str, Any]:
    """Note when the first of the rows will be over, and when the document may be forgotten."""
    ends = [f"${path}.{'expires' if path.startswith('leases') else 'until'}" for path in changed]
    told = {"$min": each("$told", "$$this.v.expires")}
    all_rows = {"$min": [{"$min": values(f"${field}", end)} for field, end in _ENDS]}
    first = if_(_some_are_over(), all_rows, {"$min": ["$over_at", told, *ends]})
    last = {"$max": [told, *ends]}
    since_grid = {"$mod": [{"$toLong": last}, _GRID]}
    forgotten = {"$subtract": [{"$add": [last, int(RETENTION * 1000) + _GRID]}, since_grid]}
    return {"$set": {"over_at": first, "forget_at": {"$max": ["$forget_at", forgotten]}}}


_ENDS = (("leases", "expires"), ("line", "until"), ("away", "until"))
