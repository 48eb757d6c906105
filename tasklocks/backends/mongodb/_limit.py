"""One limit as a document, and the expressions that settle it: drop what is over, serve the head of the line.

The document. Its rows are in the order in which they came, for objects keep it; a row's key is a digest of its owner
or ticket:

    _id: prefix and name          capacity, capacity_was: as stated last, and before
    token: the last one           usual_hold: seconds, moving average
    leases.<key>: owner, permits, token, since, expires, info; closed; address
    line.<key>, rest.<key>: ticket, permits, ttl (at first, until it is claimed), since, until, info, address
    away.<key>: the same of those who are away, without address; `_line` says more of all of them
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

from tasklocks.backends.base import HOLD_WEIGHT, RETENTION, SHORTER_HOLD_WEIGHT
from tasklocks.backends.mongodb._expressions import (
    EMPTY,
    GONE,
    NOW,
    after,
    as_object,
    each,
    if_,
    is_there,
    let,
    rows,
    values,
)
from tasklocks.types import AcquireRequest

__all__ = [
    "FREE_IF_QUIET",
    "Stages",
    "drop",
    "extended",
    "free",
    "granted",
    "hold_counted_in",
    "is_open",
    "kept_until",
    "lease_of",
    "next_token",
    "remember",
    "serve",
]

Stages = list[dict[str, Any]]

_SERVED_AT_ONCE = 1000
_ALL = 1_000_000
_SLACK = 600_000  # ms; `forget_at` moves that much further than it must, so that few steps touch its index
_ENDS = (("leases", "expires"), ("line", "until"), ("rest", "until"), ("away", "until"))


def drop() -> dict[str, Any]:
    """Drop what is over; before `over_at` nothing is, so most steps need not look at each row."""
    return {"$set": {field: if_(_some_are_over(), _live(field, end), _or_empty(field)) for field, end in _ENDS}}


def serve() -> Stages:
    """Grant to the head of the line, in order, until it does not fit; enough of the line are in front."""
    count = {"$size": "$told"}
    token = {"$add": [next_token(), "$$number"]}
    heads_lease = let({"head": {"$arrayElemAt": ["$told", "$$number"]}}, lease_of("$$head", token))
    nobody = {"$eq": ["$told", []]}
    others = {"$slice": [rows("$line"), count, _ALL]}
    return [
        {"$set": {"told": _heads_that_fit()}},
        {
            "$set": {
                "told": each({"$range": [0, count]}, heads_lease, "number"),
                "line": if_(nobody, "$line", as_object(others)),
                "token": if_(nobody, "$token", {"$add": [next_token(), count, -1]}),
            }
        },
        {"$set": {"leases": if_(nobody, "$leases", {"$mergeObjects": ["$leases", as_object("$told")]})}},
    ]


def remember(changed: Sequence[str]) -> dict[str, Any]:
    """Note when the first of the rows will be over, and when the document may be forgotten."""
    ends = [f"${path}.{'expires' if path.startswith('leases') else 'until'}" for path in changed]
    told = each("$told", "$$this.v.expires")
    all_rows = {"$min": [{"$min": values(f"${field}", end)} for field, end in _ENDS]}
    first = if_(_some_are_over(), all_rows, {"$min": ["$over_at", {"$min": told}, *ends]})
    return {"$set": {"over_at": first, "forget_at": kept_until({"$max": [NOW, {"$max": told}, *ends]})}}


def kept_until(moment: Any) -> dict[str, Any]:
    """Return when the document may be forgotten if it is needed until `moment`."""
    least = {"$add": [moment, int(RETENTION * 1000)]}
    later = {"$add": ["$$least", _SLACK]}
    return let({"least": least}, if_({"$gte": ["$forget_at", "$$least"]}, "$forget_at", later))


def is_open(lease: str) -> dict[str, Any]:
    """Tell whether the lease is there for its owner to use."""
    return {"$and": [is_there(f"${lease}"), {"$ne": [f"${lease}.closed", True]}]}


def free() -> dict[str, Any]:
    """Count the permits that nobody has."""
    return {"$subtract": ["$capacity", {"$sum": values("$leases", "permits")}]}


def next_token() -> dict[str, Any]:
    """Return a token that is larger than all before."""
    # The server's time keeps tokens growing even if the document was deleted meanwhile.
    microseconds = {"$multiply": [{"$toLong": NOW}, Int64(1000)]}
    return {"$max": [{"$add": ["$token", 1]}, microseconds]}


def granted(request: AcquireRequest) -> dict[str, Any]:
    """Return the row of a lease that begins now."""
    return {
        "owner": {"$literal": request.owner},
        "permits": request.permits,
        "token": next_token(),
        "since": NOW,
        "expires": after(request.ttl),
        "info": {"$literal": request.info},
    }


def lease_of(waiter: str, token: Any) -> dict[str, Any]:
    """Return key and row of the lease that a row of the line gets now."""
    lease = {
        "owner": f"{waiter}.v.ticket",
        "permits": f"{waiter}.v.permits",
        "token": token,
        "since": NOW,
        "expires": {"$add": [NOW, {"$multiply": [f"{waiter}.v.ttl", 1000]}, 1]},
        "info": f"{waiter}.v.info",
        "address": f"{waiter}.v.address",
    }
    return {"k": f"{waiter}.k", "v": lease}


def extended(lease: str, ttl: float) -> dict[str, Any]:
    """Return the row of a lease that lasts for its ttl from now."""
    return {"$mergeObjects": [f"${lease}", {"expires": after(ttl)}]}


def hold_counted_in(lease: str) -> dict[str, Any]:
    """Return the usual hold, with the lease that ends now counted in."""
    hold = {"$max": [0, {"$divide": [{"$subtract": [NOW, f"${lease}.since"]}, 1000]}]}
    average = {"$ifNull": ["$usual_hold", hold]}
    weight = {"$cond": [{"$gt": [hold, average]}, HOLD_WEIGHT, SHORTER_HOLD_WEIGHT]}
    return {"$add": [average, {"$multiply": [weight, {"$subtract": [hold, average]}]}]}


def _some_are_over() -> dict[str, Any]:
    return {"$and": [is_there("$over_at"), {"$lte": ["$over_at", NOW]}]}


def _live(field: str, end: str) -> dict[str, Any]:
    lasting = {"$gt": [f"$$this.v.{end}", NOW]}
    return as_object({"$filter": {"input": rows(_or_empty(field)), "cond": lasting}})


def _or_empty(field: str) -> Any:
    return {"$ifNull": [f"${field}", EMPTY]}


def _heads_that_fit() -> dict[str, Any]:
    first = {"$slice": [rows("$line"), {"$min": ["$$free", _SERVED_AT_ONCE]}]}
    fitting = if_({"$gt": ["$$count", 0]}, {"$slice": ["$$first", 0, {"$max": [1, "$$count"]}]}, [])
    somebody = {"$and": [{"$ne": ["$line", EMPTY]}, {"$gt": ["$$free", 0]}]}
    chosen = let({"first": first}, let({"count": _how_many_fit()}, fitting))
    return let({"free": free()}, if_(somebody, chosen, []))


def _how_many_fit() -> dict[str, Any]:
    fits = {"$lte": ["$$this.v.permits", "$$value.free"]}
    # Once one does not fit, nothing is free for those behind it.
    left = if_(fits, {"$subtract": ["$$value.free", "$$this.v.permits"]}, 0)
    count = if_(fits, {"$add": ["$$value.count", 1]}, "$$value.count")
    both = {
        "input": "$$first",
        "initialValue": {"count": 0, "free": "$$free"},
        "in": {"count": count, "free": left},
    }
    return let({"served": {"$reduce": both}}, "$$served.count")


FREE_IF_QUIET = if_({"$eq": ["$line", EMPTY]}, free(), GONE)
"""How many permits are free if nobody listens."""
