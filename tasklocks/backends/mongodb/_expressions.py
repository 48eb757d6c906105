"""A few words for MongoDB's expression language, so that the steps can be read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson.int64 import Int64

__all__ = [
    "EMPTY",
    "GONE",
    "NOW",
    "Step",
    "after",
    "as_object",
    "each",
    "if_",
    "is_there",
    "key_of",
    "let",
    "rows",
    "size",
    "values",
]

NOW = "$$NOW"
"""The server's clock, in whole milliseconds; the same all through a step."""

GONE = "$$REMOVE"
"""As a field's value: the field is not there."""

EMPTY: dict[str, Any] = {"$literal": {}}
"""An object without fields."""


@dataclass(frozen=True, slots=True)
class Step:
    """One atomic step on the document of one limit.

    Attributes:
        stages: the update pipeline.
        answer: the projection of the document as it is afterwards.
        make: whether to make the document if there is none.
    """

    stages: Sequence[Mapping[str, Any]]
    answer: Mapping[str, Any]
    make: bool = False


_FAR = 2**53
_MS = 1000


def key_of(text: str) -> str:
    """Return the key of a row: any text may be an owner or a ticket, but not every text may name a field."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def if_(test: Any, then: Any, otherwise: Any) -> dict[str, Any]:
    """Evaluate only the one that counts."""
    return {"$cond": [test, then, otherwise]}


def is_there(value: str) -> dict[str, Any]:
    """Tell whether a field or a row exists."""
    return {"$gt": [value, None]}


def let(names: dict[str, Any], what: Any) -> dict[str, Any]:
    """Evaluate `what` with `names` that it may use."""
    return {"$let": {"vars": names, "in": what}}


def each(items: Any, what: Any, name: str = "this") -> dict[str, Any]:
    """Map."""
    return {"$map": {"input": items, "as": name, "in": what}}


def rows(field: str) -> dict[str, Any]:
    """Return the rows of a field as a list of keys `k` and values `v`."""
    return {"$objectToArray": field}


def values(field: str, part: str = "") -> dict[str, Any]:
    """Return the rows of a field without their keys, or one part of each."""
    return each(rows(field), f"$$this.v{part and '.'}{part}")


def as_object(items: Any) -> dict[str, Any]:
    """Return a list of keys and values as an object."""
    return {"$arrayToObject": items}


def size(field: str) -> dict[str, Any]:
    """Count the rows of a field."""
    return {"$size": rows(field)}


def after(seconds: float) -> dict[str, Any]:
    """Return the moment so many seconds from now.

    One millisecond more, because the clock shows the whole ones: without it, what begins late in one would end early.
    """
    return {"$add": [NOW, Int64(min(round(seconds * _MS) + 1, _FAR))]}
