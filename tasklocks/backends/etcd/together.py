"""The step that takes permits and reserves starts, as one transaction.

All is read at one revision; the lock's entry and the states of the rates are written if nobody changed any of them
since.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from tasklocks import clock
from tasklocks.backends.base import RETENTION
from tasklocks.backends.etcd.acquiring import acquire, stay_away
from tasklocks.backends.etcd.ending import drop_lapsed
from tasklocks.backends.etcd.line import Line
from tasklocks.backends.etcd.ops import Range, Rows, Txn
from tasklocks.backends.etcd.store import Store
from tasklocks.backends.etcd.texts import FIRST_PAUSE, live_text, pause_after, unchanged
from tasklocks.backends.etcd.wish import Wish
from tasklocks.backends.several import begins_soon, reserving
from tasklocks.types import AcquireRequest, Busy, Grant, Refused, ReserveRequest, Taken

__all__ = ["take_all"]

_TRIES = 20


def take_all(
    store: Store, request: AcquireRequest, rates: Sequence[ReserveRequest], within: float
) -> Taken | Busy | Refused | None:
    """See `Backend.take_all`; None: it has to be done one after the other, for the owner has permits or listens."""
    wish = Wish(store, request, store.breaks)
    drop_lapsed(store, request.name)
    pause = FIRST_PAUSE
    for _ in range(_TRIES):
        line, found = _look(wish, _keys(store, rates))
        if line.own is not None or wish.listens:
            busy = acquire(store, request)
            return busy if isinstance(busy, Busy) else None
        with store.texts.writing():
            free = line.admits(request.permits, request.capacity)
            answer = _attempt(wish, line, found, rates, within) if free else _busy(wish, line)
        if answer is not None:
            return answer
        pause = pause_after(pause)
    return None


def _busy(wish: Wish, line: Line) -> Busy | None:
    """Return the lock's busy answer; None: permits may be free now."""
    if line.capacity.permits != wish.request.capacity:
        wish.state_capacity(line)
        return None
    answer = stay_away(wish, line)
    return answer if isinstance(answer, Busy) else None


def _look(wish: Wish, keys: Sequence[bytes]) -> tuple[Line, Sequence[Rows]]:
    """Return the line, and what is known of the rates."""
    store, request = wish.store, wish.request
    wish.breaks, wish.asked_at = store.transport.breaks, clock.now()
    reads = store.reads(request.name, request.owner, request.capacity, in_full=True)
    reply = store.transport.txn(Txn((), (*map(Range, keys), *reads)))
    return store.read(request.name, request.owner, reply, reads), reply.rows[: len(keys)]


def _attempt(
    wish: Wish, line: Line, found: Sequence[Rows], rates: Sequence[ReserveRequest], within: float
) -> Taken | Refused | None:
    """Return the answer; None: somebody was faster."""
    now, store = time.time(), wish.store
    keys = _keys(store, rates)
    texts, keep, slots = reserving(rates, RETENTION)([live_text(row.kvs) for row in found], now)
    if isinstance(slots, Refused):
        return slots if wish.stay_out(line) else None
    same, puts = unchanged(keys, found), store.texts.puts(keys, texts, now, keep)
    if not begins_soon(slots, within):
        return Taken(None, slots) if wish.stay_out(line, same, puts) else None
    grant = wish.enter(line, same, puts)
    return Taken(grant, slots) if isinstance(grant, Grant) else None


def _keys(store: Store, rates: Sequence[ReserveRequest]) -> list[bytes]:
    return [store.keys.text(rate.name) for rate in rates]
