"""Small texts by name in Redis: read, changed here, set if nobody was faster."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tasklocks import clock
from tasklocks.backends.base import Change, Changes
from tasklocks.backends.redis._calls import Call
from tasklocks.backends.redis._scripts import READ_TEXT, WRITE_TEXT, packed

__all__ = ["FIRST_PAUSE", "pause_after", "read", "text_keys", "update", "update_all"]

FIRST_PAUSE = 0.0005
"""Seconds after which to try again if somebody was faster."""

_LONGEST_PAUSE = 0.02

T = TypeVar("T")
Run = Callable[[Call], Any]


def text_keys(limits: Sequence[str]) -> bytes:
    """Return the packed keys of limits' texts; each of `limits` is the limit's key without its last part."""
    return packed([len(limits), *(f"{limit}:text" for limit in limits)])


def update(run: Run, keys: bytes, change: Change[T]) -> T:
    """See `Backend.update`."""

    def change_one(texts: Sequence[str], now: float) -> tuple[Sequence[str], float, T]:
        text, keep, answer = change(texts[0], now)
        return [text], keep, answer

    return update_all(run, keys, 1, change_one)


def update_all(run: Run, keys: bytes, count: int, change: Changes[T]) -> T:
    """Change `count` texts at once, as `update` does one."""
    pause = FIRST_PAUSE
    while True:
        old, now = read(run, keys, count)
        new, keep, answer = change(old, now)
        pairs = itertools.chain.from_iterable(zip(old, new, strict=True))
        if list(new) == old or run((WRITE_TEXT, keys, count, (max(1, round(keep * 1000)), *pairs))):
            return answer
        pause = pause_after(pause)


def read(run: Run, keys: bytes, count: int) -> tuple[list[str], float]:
    """Return the texts as they are now, and the time."""
    texts, seconds, micros = run((READ_TEXT, keys, count, ()))
    return [text.decode() for text in texts], int(seconds) + int(micros) / 1e6


def pause_after(pause: float) -> float:
    """Stand back for a while after somebody was faster; return for how long next time."""
    clock.pause(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - jitter
    return min(2 * pause, _LONGEST_PAUSE)
