"""Small texts by name, each at a key of its own: read, changed here, written if the key is the same.

etcd tells no time, so what is in a text goes by the wall clock of the hosts, as the end of a text does.
"""

from __future__ import annotations

import json
import math
import random
import time
from typing import TypeVar

from tasklocks import clock
from tasklocks.backends.base import Change
from tasklocks.backends.etcd.keys import number
from tasklocks.backends.etcd.ops import Compare, KeyValue, LeaseGoneError, Put, Range, Transport, Txn
from tasklocks.backends.etcd.sessions import Sessions

__all__ = ["Texts", "live_text"]

_FIRST_PAUSE = 0.001
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
        pause = _FIRST_PAUSE
        kvs = self._transport.txn(Txn((), (Range(key),))).rows[0].kvs
        while True:
            old, mod, now = live_text(kvs), kvs[0].mod if kvs else 0, time.time()
            new, keep, answer = change(old, now)
            if new == old:
                return answer
            value = json.dumps([now + keep, new]).encode()
            swap = Txn((Compare(key, "mod", "EQUAL", mod),), (Put(key, value, self._lease(keep)),), (Range(key),))
            try:
                reply = self._transport.txn(swap)
            except LeaseGoneError:
                self._leases.clear()
                raise
            if reply.done:
                return answer
            kvs = reply.rows[0].kvs
            clock.pause(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - jitter
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _lease(self, keep: float) -> int:
        """Return an etcd lease that lasts for so long, and not much longer: a few serve for all texts."""
        keep = min(max(keep, 1.0), _LONGEST_KEPT)
        size, now = 2 ** math.ceil(math.log2(keep)), clock.now()
        lease, until = self._leases.get(size, (0, -math.inf))
        if until - now < keep:
            lease = self._sessions.once(2 * size)
            self._leases[size] = (lease, now + 2 * size)
        return lease


def live_text(kvs: tuple[KeyValue, ...]) -> str:
    """Return the text in what was read of its key; empty if there is none, or its time is over."""
    try:
        until, text = json.loads(kvs[0].value) if kvs else (0, "")
    except ValueError:
        return ""
    return str(text) if number(until) > time.time() else ""
