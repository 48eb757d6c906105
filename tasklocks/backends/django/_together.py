"""A lock and starts at several rates in one transaction of PostgreSQL.

The states of the rates are read and locked first. Then the lock is taken, and they are written if it was: two round
trips. If the starts are too far away for a lease, or refused, it is only tried whether the lock is free, and undone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from tasklocks import clock
from tasklocks.backends.base import RETENTION
from tasklocks.backends.django import _steps
from tasklocks.backends.django._links import Session
from tasklocks.backends.several import begins_soon, reserving
from tasklocks.types import AcquireRequest, Busy, Grant, Refused, ReserveRequest, Taken

__all__ = ["take_all"]

Read = Callable[[AcquireRequest, int | None, list[Any], float], Grant | Busy]
"""From a request, the capacity before, an answer and the local clock before it was asked for to what it means."""


def take_all(
    session: Session,
    prefix: str,
    request: AcquireRequest,
    rates: Sequence[ReserveRequest],
    *,
    within: float,
    read: Read,
) -> Taken | Busy | Refused:
    """See `Backend.take_all`."""
    names = [_steps.full_key_of(prefix, rate.name) for rate in rates]
    keys = [_steps.key_of(name) for name in names]
    (known,) = session.ask(_steps.read_texts(keys), commit=False)
    now, found = json.loads(known)
    texts, keep, slots = reserving(rates, RETENTION)([(found or {}).get(key, "") for key in keys], now)
    written = [] if isinstance(slots, Refused) else list(zip(names, texts, strict=True))
    lock = _steps.full_key_of(prefix, request.name)
    soon = not isinstance(slots, Refused) and begins_soon(slots, within)
    with_lease = [_steps.write_text(name, text, keep, lock=lock, owner=request.owner) for name, text in written]
    steps = [*_steps.acquire(lock, request), *with_lease] if soon else _steps.acquire(lock, request, undoable=True)
    asked_at = clock.now()
    was, answer = map(json.loads, session.ask(steps, begin=False, commit=soon))
    grant = read(request, was[0], answer, asked_at)
    if not soon:
        alone = [_steps.write_text(name, text, keep) for name, text in written]
        undo = [] if isinstance(grant, Busy) else [*_steps.undo(lock, request), *alone]
        session.ask(undo, begin=False)
    if isinstance(grant, Busy):
        return grant
    return slots if isinstance(slots, Refused) else Taken(grant if soon else None, slots)
