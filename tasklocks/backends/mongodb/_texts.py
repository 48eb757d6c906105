"""Small texts by name, each in a document beside the limits: read, changed here, written if it is still the same."""

from __future__ import annotations

import random
import secrets
from typing import TypeVar

from tasklocks import clock
from tasklocks.backends.base import Change
from tasklocks.backends.mongodb._expressions import NOW, Step, after, if_
from tasklocks.backends.mongodb._server import Server

__all__ = ["update"]

_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05

T = TypeVar("T")


def update(server: Server, key: str, change: Change[T]) -> T:
    """See `Backend.update`."""
    pause = _FIRST_PAUSE
    while True:
        old, now = _read(server, key)
        new, keep, answer = change(old, now)
        if new == old or _written(server, key, old, new, keep):
            return answer
        clock.pause(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - jitter
        pause = min(2 * pause, _LONGEST_PAUSE)


def _read(server: Server, key: str) -> tuple[str, float]:
    found = server.look(key, {"text": 1, "forget_at": 1, "now": NOW})
    if found is None:
        return "", server.time()
    now = int(found["now"])
    live = int(found.get("forget_at", 0)) > now
    return str(found["text"]) if live else "", now / 1000


def _written(server: Server, key: str, old: str, new: str, keep: float) -> bool:
    """Replace `old` by `new`, unless somebody was faster."""
    # A mark of this write: a step whose answer was lost is done again, and finds its own text instead of the old one.
    mark = secrets.token_hex(8)
    text = if_({"$gt": ["$forget_at", NOW]}, "$text", "")
    swapped = {"text": {"$literal": new}, "forget_at": after(keep), "by": mark}
    same = {"$eq": [text, {"$literal": old}]}
    stage = {"$set": {field: if_(same, value, f"${field}") for field, value in swapped.items()}}
    found = server.step(key, Step([stage], {"_id": 0, "by": 1}, make=True))
    return found is not None and found.get("by") == mark
