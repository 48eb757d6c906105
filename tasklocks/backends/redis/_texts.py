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

__all__ = ["text_keys", "update", "update_all"]

_FIRST_PAUSE = 0.0005
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
    pause = _FIRST_PAUSE
    while True:
        texts, seconds, micros = run((READ_TEXT, keys, count, ()))
        old = [text.decode() for text in texts]
        new, keep, answer = change(old, int(seconds) + int(micros) / 1e6)
        pairs = itertools.chain.from_iterable(zip(old, new, strict=True))
        if list(new) == old or run((WRITE_TEXT, keys, count, (max(1, round(keep * 1000)), *pairs))):
            return answer
        clock.pause(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - jitter
        pause = min(2 * pause, _LONGEST_PAUSE)
