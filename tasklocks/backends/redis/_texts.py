"""Small texts by name in Redis: read, changed here, set if nobody was faster."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeVar

from tasklocks import clock
from tasklocks.backends.base import Change
from tasklocks.backends.redis._calls import Call
from tasklocks.backends.redis._scripts import READ_TEXT, WRITE_TEXT, packed

__all__ = ["text_key", "update"]

_FIRST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.02

T = TypeVar("T")
Run = Callable[[Call], Any]


def text_key(limit: str) -> bytes:
    """Return the packed key of a limit's text; `limit` is the limit's key without its last part."""
    return packed([1, f"{limit}:text"])


def update(run: Run, keys: bytes, change: Change[T]) -> T:
    """See `Backend.update`."""
    pause = _FIRST_PAUSE
    while True:
        text, seconds, micros = run((READ_TEXT, keys, 1, ()))
        old = text.decode()
        new, keep, answer = change(old, int(seconds) + int(micros) / 1e6)
        if new == old or run((WRITE_TEXT, keys, 1, (old, new, max(1, round(keep * 1000))))):
            return answer
        clock.pause(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - jitter
        pause = min(2 * pause, _LONGEST_PAUSE)
