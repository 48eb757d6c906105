"""The line of a limit, of which a step looks at the front only: a look at each of thousands is felt.

    line.<key>: the front, in order; nobody is there only if the rest is empty
    rest.<key>: those behind it, with the number that each got when it came
    numbered: the last of these numbers             moved: that of the last one who moved up to the front
    newest: since when who waits for the shortest time waits, or somebody did who was in line lately

The order is that of the times since which they wait. That is the order of coming, but for those who have waited
elsewhere: who waits since before `newest` is put in its place, and only that looks at all of the line.
Who goes away out of the rest leaves its number behind: until the others move up, they are told of one too many ahead.
"""

from __future__ import annotations

from typing import Any

from bson.int64 import Int64

from tasklocks.backends.base import GRANT_TTL
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
    let,
    rows,
    size,
    values,
)
from tasklocks.backends.mongodb._limit import Stages, free, is_open
from tasklocks.types import AcquireRequest, Place

__all__ = ["AWAY_KEPT", "FEWEST", "LINE_KEPT", "ahead", "is_behind", "left", "move_up", "places", "take_place"]

LINE_KEPT = 10_000
"""How many listening waiters a limit keeps in order; further ones look again until there is room."""

AWAY_KEPT = 1000
"""How many places of waiters that are away a limit keeps; further ones are not counted."""

FEWEST = 16
"""Where so many are left in front, nobody needs to move up."""

_ALL = 1_000_000
_FAR = 2**53
_FRONT = 64  # move up at once, so that few steps pay for that


def move_up() -> Stages:
    """Fill the front up for all whom this step can serve, and for a while, if few are left there."""
    served = {"$max": [0, free()]}
    few = {"$lt": [size("$line"), {"$add": [FEWEST, served]}]}
    first = {"$slice": [rows("$rest"), {"$add": [_FRONT, served]}]}
    nobody = {"$eq": ["$moving", []]}
    others = {"$slice": [rows("$rest"), {"$size": "$moving"}, LINE_KEPT]}
    filled = {
        "line": if_(nobody, "$line", {"$mergeObjects": ["$line", as_object("$moving")]}),
        "rest": if_(nobody, "$rest", as_object(others)),
        "moved": if_(nobody, "$moved", {"$max": "$moving.v.number"}),
        "moving": GONE,
    }
    return [{"$set": {"moving": if_({"$and": [{"$ne": ["$rest", EMPTY]}, few]}, first, [])}}, {"$set": filled}]


def places(place: Place) -> list[str]:
    """Return where in the document a place may be."""
    key = key_of(place.ticket)
    return [f"away.{key}"] if place.address is None else [f"line.{key}", f"rest.{key}"]


def left(key: str) -> dict[str, Any]:
    """Return the fields of a listening waiter that is not in line any more."""
    return {f"line.{key}": GONE, f"rest.{key}": GONE}


def is_behind(request: AcquireRequest) -> dict[str, Any]:
    """Tell whether anybody listens in front of one who asks; whose place is kept in line is served from there."""
    somebody = {"$ne": ["$line", EMPTY]}
    if request.since is None:
        return somebody
    key = key_of(request.owner)
    first = let({"first": {"$arrayElemAt": [rows("$line"), 0]}}, "$$first.v.since")
    waits = [is_there(f"$line.{key}"), is_there(f"$rest.{key}"), {"$lte": [first, _since(request)]}]
    return {"$and": [somebody, {"$or": waits}]}


def take_place(lease: str, request: AcquireRequest, asked: Place) -> Stages:
    """Enter or refresh the place that was asked for; who has its lease needs none."""
    waits = {"$not": is_open(lease)}
    if asked.address is None:
        return [{"$set": _away(request, asked, waits)}]
    at_end = {"$set": _listening(request, asked, waits)}
    return [at_end] if request.since is None else [at_end, {"$set": _before_later_ones(request, asked)}]


def ahead(place: Place | None) -> dict[str, Any]:
    """Count those in front of a place; of one who has none, all who wait."""
    listening, away = {"$add": [size("$line"), _resting()]}, size("$away")
    if place is None:
        return {"$add": [listening, away]}
    key = key_of(place.ticket)
    if place.address is None:
        return {"$add": [listening, _before("away", key)]}
    front, behind = _fields(place)
    # Who found no room is behind all others.
    number = if_(is_there(behind), {"$subtract": [f"{behind}.number", 1]}, "$numbered")
    return if_(is_there(front), _before("line", key), {"$add": [size("$line"), _since_moved(number)]})


def _away(request: AcquireRequest, asked: Place, waits: Any) -> dict[str, Any]:
    (field,) = _fields(asked)
    has_room = {"$or": [is_there(field), {"$lt": [size("$away"), AWAY_KEPT]}]}
    return {field[1:]: if_({"$and": [waits, has_room]}, _row(request, asked, field), GONE)}


def _listening(request: AcquireRequest, asked: Place, waits: Any) -> dict[str, Any]:
    front, behind = _fields(asked)
    nobody_behind = {"$and": [{"$eq": ["$rest", EMPTY]}, {"$lt": [size("$line"), _FRONT]}]}
    in_front = {"$or": [is_there(front), nobody_behind]}
    comes = {"$and": [waits, {"$not": in_front}, {"$not": is_there(behind)}, {"$lt": [_resting(), LINE_KEPT]}]}
    stays = {"$and": [waits, is_there(behind)]}
    is_new = {"$or": [comes, {"$and": [waits, nobody_behind, {"$not": is_there(front)}]}]}
    since = _since(request)
    number = {"$add": [{"$ifNull": ["$numbered", 0]}, 1]}
    numbered = {**_row(request, asked, behind), "number": {"$ifNull": [f"{behind}.number", number]}}
    return {
        front[1:]: if_({"$and": [waits, in_front]}, _row(request, asked, front), GONE),
        behind[1:]: if_({"$or": [comes, stays]}, numbered, GONE),
        "numbered": if_(comes, number, "$numbered"),
        "newest": if_(is_new, {"$max": ["$newest", since]}, "$newest"),
        **({} if request.since is None else {"early": {"$and": [is_new, {"$lt": [since, "$newest"]}]}}),
    }


def _before_later_ones(request: AcquireRequest, asked: Place) -> dict[str, Any]:
    """Move one who came to the end, but has waited for longer than others, before those."""
    front, behind = _fields(asked)
    since, key = _since(request), key_of(asked.ticket)
    last_in_front = let({"last": {"$arrayElemAt": [rows("$line"), -1]}}, "$$last.v.since")
    in_front = {"$or": [is_there(front), {"$lt": [since, last_in_front]}]}
    row = {"$ifNull": [front, behind]}
    others = {"$unsetField": {"field": key, "input": "$rest"}}
    # Counted as the one whose place it takes, for all numbers have been given to others.
    numbered = {"$mergeObjects": [row, {"number": "$$next.v.number"}]}
    among_others = _inserted(others, key, numbered, since)
    not_last = {"$or": [in_front, {"$gt": [{"$max": values("$rest", "since")}, since]}]}
    moved = {
        "line": if_(in_front, _inserted({"$unsetField": {"field": key, "input": "$line"}}, key, row, since), "$line"),
        "rest": if_(in_front, others, among_others),
        "numbered": if_({"$and": [is_there(behind), not_last]}, {"$subtract": ["$numbered", 1]}, "$numbered"),
    }
    return {**{field: if_("$early", value, f"${field}") for field, value in moved.items()}, "early": GONE}


def _inserted(line: Any, key: str, row: Any, since: Any) -> dict[str, Any]:
    """Return a part of the line with a row before all that wait since later; the first of these is `next` in it."""
    later = {"$indexOfArray": [each("$$rows", {"$gt": ["$$this.v.since", since]}), True]}
    place = let({"later": later}, if_({"$lt": ["$$later", 0]}, {"$size": "$$rows"}, "$$later"))
    parts = [{"$slice": ["$$rows", "$$place"]}, [{"k": key, "v": row}], {"$slice": ["$$rows", "$$place", _ALL]}]
    following = {"next": {"$arrayElemAt": ["$$rows", "$$place"]}}
    inserted = let(following, as_object({"$concatArrays": parts}))
    return let({"rows": rows(line)}, let({"place": place}, inserted))


def _since(request: AcquireRequest) -> Any:
    if request.since is None:
        return NOW
    return {"$min": [NOW, {"$toDate": Int64(max(0, min(round(request.since * 1000), _FAR)))}]}


def _fields(place: Place) -> list[str]:
    return [f"${field}" for field in places(place)]


def _row(request: AcquireRequest, asked: Place, field: str) -> dict[str, Any]:
    return {
        "ticket": {"$literal": asked.ticket},
        "permits": request.permits,
        "ttl": min(request.ttl, GRANT_TTL),
        "since": {"$ifNull": [f"{field}.since", _since(request)]},
        "until": after(asked.keep),
        "info": {"$literal": request.info},
        "address": {"$literal": asked.address},
    }


def _resting() -> dict[str, Any]:
    return if_({"$eq": ["$rest", EMPTY]}, 0, _since_moved("$numbered"))


def _since_moved(number: Any) -> dict[str, Any]:
    return {"$subtract": [number, {"$ifNull": ["$moved", 0]}]}


def _before(line: str, key: str) -> dict[str, Any]:
    number = if_({"$gte": ["$$number", 0]}, "$$number", {"$size": "$$keys"})
    keys = each(rows(f"${line}"), "$$this.k")
    return let({"keys": keys}, let({"number": {"$indexOfArray": ["$$keys", key]}}, number))
