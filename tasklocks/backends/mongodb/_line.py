"""The line of a limit, of which a step looks at the front only: a look at each of thousands is felt.

    line.<key>: the front, in order; nobody is there only if the rest is empty
    rest.<key>: those behind it, with the number that each got when it came
    numbered: the last of these numbers             moved: that of the last one who moved up to the front

Who goes away out of the rest leaves its number behind: until the others move up, they are told of one too many ahead.
"""

from __future__ import annotations

from typing import Any

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
)
from tasklocks.backends.mongodb._limit import Stages, free, is_open
from tasklocks.types import AcquireRequest, Place

__all__ = ["AWAY_KEPT", "FEWEST", "LINE_KEPT", "ahead", "left", "move_up", "places", "take_place"]

LINE_KEPT = 10_000
"""How many listening waiters a limit keeps in order; further ones look again until there is room."""

AWAY_KEPT = 1000
"""How many places of waiters that are away a limit keeps; further ones are not counted."""

FEWEST = 16
"""Where so many are left in front, nobody needs to move up."""

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


def take_place(lease: str, request: AcquireRequest, asked: Place) -> dict[str, Any]:
    """Enter or refresh the place that was asked for; who has its lease needs none."""
    waits = {"$not": is_open(lease)}
    return {"$set": (_away if asked.address is None else _listening)(request, asked, waits)}


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
    number = {"$add": [{"$ifNull": ["$numbered", 0]}, 1]}
    numbered = {**_row(request, asked, behind), "number": {"$ifNull": [f"{behind}.number", number]}}
    return {
        front[1:]: if_({"$and": [waits, in_front]}, _row(request, asked, front), GONE),
        behind[1:]: if_({"$or": [comes, stays]}, numbered, GONE),
        "numbered": if_(comes, number, "$numbered"),
    }


def _fields(place: Place) -> list[str]:
    return [f"${field}" for field in places(place)]


def _row(request: AcquireRequest, asked: Place, field: str) -> dict[str, Any]:
    return {
        "ticket": {"$literal": asked.ticket},
        "permits": request.permits,
        "ttl": min(request.ttl, GRANT_TTL),
        "since": {"$ifNull": [f"{field}.since", NOW]},
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
