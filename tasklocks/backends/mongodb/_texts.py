"""Small texts by name, each in a document beside the limits: read, changed here, written if it is still the same."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, TypeVar

from tasklocks.backends.base import Change
from tasklocks.backends.mongodb._expressions import NOW, Step, after, if_
from tasklocks.backends.mongodb._server import Server

__all__ = ["update"]

_FIELDS = {"text": 1, "forget_at": 1, "now": NOW}

T = TypeVar("T")


def update(server: Server, key: str, change: Change[T]) -> T:
    """See `Backend.update`."""
    old, now = _read(server, key)
    while True:
        new, keep, answer = change(old, now)
        if new == old:
            return answer
        # A mark of this write: a step whose answer was lost is done again, and finds its own text, not the old one.
        mark = secrets.token_hex(8)
        found = _written(server, key, old, new, keep=keep, mark=mark)
        if found["by"] == mark:
            return answer
        # Somebody was faster, and their text has come with the answer. Without a pause: it would be old after one.
        old, now = _live(found)


def _read(server: Server, key: str) -> tuple[str, float]:
    found = server.look(key, _FIELDS)
    return ("", server.time()) if found is None else _live(found)


def _live(found: Mapping[str, Any]) -> tuple[str, float]:
    now = int(found["now"])
    return str(found["text"]) if int(found.get("forget_at", 0)) > now else "", now / 1000


def _written(server: Server, key: str, old: str, new: str, *, keep: float, mark: str) -> Mapping[str, Any]:
    """Replace `old` by `new`, unless somebody was faster; return what is there then."""
    text = if_({"$gt": ["$forget_at", NOW]}, "$text", "")
    swapped = {"text": {"$literal": new}, "forget_at": after(keep), "by": mark}
    same = {"$eq": [text, {"$literal": old}]}
    stage = {"$set": {field: if_(same, value, f"${field}") for field, value in swapped.items()}}
    return server.step(key, Step([stage], {**_FIELDS, "_id": 0, "by": 1}, make=True)) or {}
