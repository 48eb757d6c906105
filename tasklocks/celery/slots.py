"""Reserves a start at each rate of a call, once, and lets the call go on when the last of them has come.

A task that must wait is sent again with exactly the time until its start, and carries its reservations. When it comes
back it looks whether a pause has moved them, or whether it comes too late, and runs.

Several rates are reserved all or none, in one atomic step where the backend can; in the order of their names otherwise,
and those on different backends. With the call's lock: see `together`. The call starts when its latest start comes.
Rates whose start was earlier have counted it at that earlier time, so that one slow rate does not hold up all who share
a fast one with it; there the call comes late, and goes through the line of the late ones.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

from tasklocks import clock
from tasklocks.backoff import when_unreachable
from tasklocks.celery.calls import Call, Kind
from tasklocks.celery.policy import Away, called, patience, patiently, refuse, send_away
from tasklocks.celery.starts import RefusedError, Starts, refused
from tasklocks.celery.subject import about_call
from tasklocks.celery.waited import Booked, Waited
from tasklocks.celery.wish import Wish
from tasklocks.errors import BackendUnavailable, ConfigurationError, LockBusy
from tasklocks.news import tell, watched
from tasklocks.types import Refused, Slot

__all__ = ["SHORT", "take_slots", "tell_started"]

SHORT = 0.02
"""Seconds; a shorter wait is over before a message had come back."""

_SHORT_LATE = 0.25  # seconds; the same for a task that came back too late already: another message may be late as well
_UNSENT_WAIT = 5.0  # seconds between two attempts to publish

_logger = logging.getLogger("tasklocks")

_STRICTEST = ("raise", "retry", "run")


def take_slots(starts: Starts) -> bool:
    """Return True once all that is wished may start; False if one has no start now and the call is to be skipped.

    What is reserved already is kept, what is missing is reserved.

    Raises:
        Retry: the task was sent again (in a worker only).
        LockBusy: a start is not free now, and the call does not wait.
        LockTimeout: a start is not free within `max_wait`; nothing is reserved.
        BackendUnavailable: a backend does not answer, and the limit says that this is an error.
    """
    if not starts.wishes:
        return True
    try:
        for together in starts.missing():
            _book(starts, together)
    except RefusedError as refusal:
        refuse(starts.call, refusal.wish.spec, refusal.busy)
        return False
    _wait_until(max(starts.wishes, key=lambda wish: starts.due[wish.key]), starts)
    return True


def tell_started(starts: Starts) -> None:
    """Tell that a call starts under its rates."""
    for wish in starts.wishes:
        waited = starts.booked[wish.key].slot.wait if wish.key in starts.booked else 0.0
        tell("acquired", about_call(starts.call, wish.spec, wish.name, wish.backend), waited=waited)


def _book(starts: Starts, together: Sequence[Wish]) -> None:
    """Find out when the call may start at each limit; all of them are on one backend."""
    call = starts.call
    bounds = [patience(call, wish.spec) for wish in together]
    shortest = min((bound for bound in bounds if bound is not None), default=None)
    began = clock.now()
    strictest = min(together, key=lambda wish: _STRICTEST.index(wish.spec.on_backend_error))

    def step(_: float | None) -> None:
        spent = clock.now() - began
        _book_now(starts, together, [None if bound is None else max(0.0, bound - spent) for bound in bounds])

    try:
        if call.kind is Kind.BODY or strictest.spec.on_backend_error != "retry":
            step(shortest)
        else:
            patiently(shortest, step)
    except (BackendUnavailable, ConfigurationError) as down:
        until = _unreachable(call, strictest, starts.booked, down)
        starts.due |= {wish.key: until for wish in together}


def _book_now(starts: Starts, together: Sequence[Wish], bounds: Sequence[float | None]) -> None:
    """Look at what is reserved, and reserve the rest."""
    known: dict[str, float] = {}
    for wish in together:
        if wish.key in starts.booked and (begun := wish.begin(starts.booked[wish.key])) is not None:
            starts.booked[wish.key], left = begun
            known[wish.key] = clock.now() + left
    missing = [(wish, bound) for wish, bound in zip(together, bounds, strict=True) if wish.key not in known]
    for (wish, _), slot in zip(missing, _reserve(missing), strict=True):
        starts.note(wish, slot)
    starts.due |= known


def _reserve(missing: Sequence[tuple[Wish, float | None]]) -> Sequence[Slot]:
    """Return a start for each wish; each comes with its bound in seconds."""
    if not missing:
        return ()
    wish, _ = missing[0]
    requests = [each.request(at_most) for each, at_most in missing]
    answer = wish.backend.reserve_all(requests) if len(requests) > 1 else wish.backend.reserve(requests[0])
    if isinstance(answer, Refused):
        raise refused(answer, missing)
    return (answer,) if isinstance(answer, Slot) else answer


def _unreachable(
    call: Call, wish: Wish, bookings: dict[str, Booked], down: BackendUnavailable | ConfigurationError
) -> float:
    """Do what the limit says about a backend that does not answer; a refused password is one, too."""
    where = called(call, wish.spec)
    if wish.spec.on_backend_error == "run":
        _logger.warning("%s runs without its %s, for the backend is not usable: %s", where, wish, down)
        return clock.now()
    if wish.spec.on_backend_error == "raise" or call.kind is not Kind.BODY:
        raise down
    tell("unreachable", about_call(call, wish.spec, wish.name, wish.backend), reason=str(down))
    until = clock.now() + when_unreachable(call.waited.times)
    waited = dataclasses.replace(call.waited, times=call.waited.times + 1, slots=tuple(bookings.values()))
    reason = LockBusy(f"waiting: the backend is not usable: {down}", name=wish.name)
    return send_away(call, Away(where, lambda: until - clock.now(), waited, reason), lambda: _stay(until))


def _wait_until(wish: Wish, starts: Starts) -> None:
    """Wait for the start of `wish`, which is the latest."""
    call, due = starts.call, starts.due[wish.key]
    left = due - clock.now()
    late = any(each.late for each in starts.booked.values())
    if left <= (_SHORT_LATE if late else SHORT):
        clock.pause(max(left, 0.0))
        return
    if watched[0]:
        tell("waiting", about_call(call, wish.spec, wish.name, wish.backend), reason=f"starts in {left:.1f} s")
    if call.kind is not Kind.BODY or wish.spec.on_busy == "wait":
        _wait_in_place(left, starts.wishes, starts.booked)
    else:
        reason = LockBusy(f"waiting: {wish}: starts in {left:.1f} s", name=wish.name)
        waited = Waited(slots=tuple(starts.booked.values()))
        away = Away(called(call, wish.spec), lambda: due - clock.now(), waited, reason)
        send_away(call, away, lambda: _stay(due))


def _wait_in_place(left: float, wishes: Sequence[Wish], bookings: dict[str, Booked]) -> None:
    while left > 0:
        clock.pause(left)
        try:
            left = max(wish.left(bookings[wish.key]) for wish in wishes if wish.key in bookings)
        except BackendUnavailable as down:
            # The start is ours; only a pause would be missed.
            _logger.warning("a reserved start is used although its backend does not answer: %s", down)
            return


def _stay(until: float) -> float | None:
    """Wait for a while; None: it is not time yet."""
    clock.pause(min(_UNSENT_WAIT, max(0.0, until - clock.now())))
    return until if clock.now() >= until else None
