"""Small texts by name, each at a key of its own: read, changed here, written if the key is the same.

etcd tells no time, so what is in a text goes by the wall clock of the hosts, as the end of a text does.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from tasklocks import clock
from tasklocks.backends.base import Change, Changes
from tasklocks.backends.etcd.keys import number
from tasklocks.backends.etcd.ops import Compare, KeyValue, LeaseGoneError, Put, Range, Rows, Transport, Txn
from tasklocks.backends.etcd.sessions import Sessions

__all__ = ["FIRST_PAUSE", "Texts", "live_text", "pause_after", "unchanged"]

FIRST_PAUSE = 0.001
"""Seconds after which to try again if somebody was faster."""

_LONGEST_PAUSE = 0.05
_LONGEST_KEPT = 3e8  # seconds

T = TypeVar("T")


class Texts:
    """One process's way to the texts."""

    def __init__(self, transport: Transport, sessions: Sessions) -> None:
        self._transport = transport
        self._sessions = sessions
        self._leases: dict[int, tuple[int, float]] = {}

    def update(self, key: bytes, change: Change[T]) -> T:
        """See `Backend.update`."""

        def change_one(texts: Sequence[str], now: float) -> tuple[Sequence[str], float, T]:
            text, keep, answer = change(texts[0], now)
            return [text], keep, answer

        return self.update_all([key], change_one)

    def update_all(self, keys: Sequence[bytes], change: Changes[T]) -> T:
        """Change several texts at once, as `update` does one."""
        pause, look = FIRST_PAUSE, tuple(Range(key) for key in keys)
        found = self._transport.txn(Txn((), look)).rows
        while True:
            old, now = [live_text(row.kvs) for row in found], time.time()
            new, keep, answer = change(old, now)
            if list(new) == old:
                return answer
            with self.writing():
                puts = self.puts(keys, new, now, keep)
                reply = self._transport.txn(Txn(unchanged(keys, found), puts, look))
            if reply.done:
                return answer
            found = reply.rows
            pause = pause_after(pause)

    def puts(self, keys: Sequence[bytes], texts: Sequence[str], now: float, keep: float) -> tuple[Put, ...]:
        """Return what writes the texts, to be kept for so many seconds."""
        lease = self._lease(keep)
        return tuple(
            Put(key, json.dumps([now + keep, text]).encode(), lease) for key, text in zip(keys, texts, strict=True)
        )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Notice it if an etcd lease of the texts is over."""
        try:
            yield
        except LeaseGoneError:
            self._leases.clear()
            raise

    def _lease(self, keep: float) -> int:
        """Return an etcd lease that lasts for so long, and not much longer: a few serve for all texts."""
        keep = min(max(keep, 1.0), _LONGEST_KEPT)
        size, now = 2 ** math.ceil(math.log2(keep)), clock.now()
        lease, until = self._leases.get(size, (0, -math.inf))
        if until - now < keep:
            lease = self._sessions.once(2 * size)
            self._leases[size] = (lease, now + 2 * size)
        return lease


def unchanged(keys: Sequence[bytes], found: Sequence[Rows]) -> tuple[Compare, ...]:
    """Return what is true as long as the keys are as they were found."""
    mods = [row.kvs[0].mod if row.kvs else 0 for row in found]
    return tuple(Compare(key, "mod", "EQUAL", mod) for key, mod in zip(keys, mods, strict=True))


def pause_after(pause: float) -> float:
    """Stand back for a while after somebody was faster; return for how long next time."""
    clock.pause(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - jitter
    return min(2 * pause, _LONGEST_PAUSE)


def live_text(kvs: tuple[KeyValue, ...]) -> str:
    """Return the text in what was read of its key; empty if there is none, or its time is over."""
    try:
        until, text = json.loads(kvs[0].value) if kvs else (0, "")
    except ValueError:
        return ""
    return str(text) if number(until) > time.time() else ""
