"""Reserves a start at each rate of a call, once, and lets the call go on when the last of them has come.

A task that must wait is sent again with exactly the time until its start, and carries its reservations. When it comes
back it looks whether a pause has moved them, or whether it comes too late, and runs.

Each reservation is atomic, all of them together are not. So with several rates the call first asks all of them, and
reserves only if none refuses. If others reserve in between, one may refuse after all: then a start of the rates before
it stays unused. That can make a rate slower for a moment, never faster. The call starts when its latest start comes;
rates whose start was earlier have counted it at that earlier time.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone

from tasklocks import clock
from tasklocks.backoff import when_unreachable
from tasklocks.celery.calls import Call, Kind
from tasklocks.celery.policy import Away, called, patience, patiently, refuse, send_away
from tasklocks.celery.waited import Booked, Waited
from tasklocks.celery.wish import Wish
from tasklocks.errors import BackendUnavailable, ConfigurationError, LockBusy, LockTimeout
from tasklocks.types import Refused, Slot

__all__ = ["SHORT", "take_slots"]

SHORT = 0.02
"""Seconds; a shorter wait is over before a message had come back."""

_SHORT_LATE = 0.25  # seconds; the same for a task that came back too late already: another message may be late as well
_UNSENT_WAIT = 5.0  # seconds between two attempts to publish

_logger = logging.getLogger("tasklocks")

Bookings = dict[str, Booked]
"""The starts that a call has reserved so far, by the names of the limits."""

Step = Callable[[Wish, Bookings, float | None], float]
"""What is asked of one limit, with a bound in seconds: when the call may start, on the local clock."""


def take_slots(call: Call, wishes: Sequence[Wish]) -> bool:
    """Return True once all that is wished may start; False if one has no start now and the call is to be skipped.

    Raises:
        Retry: the task was sent again (in a worker only).
        LockBusy: a start is not free now, and the call does not wait.
        LockTimeout: a start is not free within `max_wait`; nothing is reserved.
        BackendUnavailable: a backend does not answer, and the limit says that this is an error.
    """
    if not wishes:
        return True
    bookings = {each.name: each for each in call.waited.slots}
    due: dict[str, float] = {}
    for step, wish in itertools.product([_ask, _book] if len(wishes) > 1 else [_book], wishes):
        answer = _due(call, wish, bookings, step)
        if answer is None:
            return False
        due[wish.name] = answer
    latest = max(wishes, key=lambda wish: due[wish.name])
    _wait_until(due[latest.name], call, latest, wishes, bookings)
    return True


def _due(call: Call, wish: Wish, bookings: Bookings, step: Step) -> float | None:
    """Return what the step answers; None: the call is to be skipped."""
    try:
        return _answer(call, wish, bookings, step)
    except LockBusy as busy:
        refuse(call, wish.spec, busy)
        return None


def _answer(call: Call, wish: Wish, bookings: Bookings, step: Step) -> float:
    bound = patience(call, wish.spec)
    try:
        if call.kind is Kind.BODY or wish.spec.on_backend_error != "retry":
            return step(wish, bookings, bound)
        return patiently(bound, lambda left: step(wish, bookings, left))
    except (BackendUnavailable, ConfigurationError) as down:
        return _unreachable(call, wish, bookings, down)


def _ask(wish: Wish, bookings: Bookings, bound: float | None) -> float:
    """Ask whether the limit would refuse, if it could."""
    if bound is not None and wish.name not in bookings:
        _checked(wish.would_reserve(bound), wish, bound)
    return clock.now()


def _book(wish: Wish, bookings: Bookings, bound: float | None) -> float:
    """Look at what is reserved, or reserve."""
    if wish.name in bookings:
        begun = wish.begin(bookings[wish.name])
        if begun is not None:
            bookings[wish.name], left = begun
            return clock.now() + left
    slot = _checked(wish.reserve(bound), wish, bound)
    bookings[wish.name] = Booked(wish.name, slot.start, slot.made)
    return clock.now() + slot.wait


def _checked(answer: Slot | Refused, wish: Wish, bound: float | None) -> Slot:
    if isinstance(answer, Slot):
        return answer
    at = datetime.now(timezone.utc) + timedelta(seconds=answer.wait)
    kind, told = (LockTimeout, f"may wait for {wish.spec.max_wait:g} s") if bound else (LockBusy, "does not wait")
    raise kind(
        f"{wish}: the next start is in {answer.wait:.1f} s, about {at:%Y-%m-%d %H:%M:%S} UTC, and it {told}",
        name=wish.name,
    )


def _unreachable(call: Call, wish: Wish, bookings: Bookings, down: BackendUnavailable | ConfigurationError) -> float:
    """Do what the limit says about a backend that does not answer; a refused password is one, too."""
    where = called(call, wish.spec)
    if wish.spec.on_backend_error == "run":
        _logger.warning("%s runs without its %s, for the backend is not usable: %s", where, wish, down)
        return clock.now()
    if wish.spec.on_backend_error == "raise" or call.kind is not Kind.BODY:
        raise down
    _logger.warning("%s waits, for its backend is not usable: %s", where, down)
    until = clock.now() + when_unreachable(call.waited.times)
    waited = dataclasses.replace(call.waited, times=call.waited.times + 1, slots=tuple(bookings.values()))
    reason = LockBusy(f"waiting: the backend is not usable: {down}", name=wish.name)
    return send_away(call, Away(where, lambda: until - clock.now(), waited, reason), lambda: _stay(until))


def _wait_until(due: float, call: Call, wish: Wish, wishes: Sequence[Wish], bookings: Bookings) -> None:
    """Wait for the start of `wish`, which is the latest of `wishes`."""
    left = due - clock.now()
    late = any(each.late for each in bookings.values())
    if left <= (_SHORT_LATE if late else SHORT):
        clock.pause(max(left, 0.0))
    elif call.kind is not Kind.BODY or wish.spec.on_busy == "wait":
        _wait_in_place(left, wishes, bookings)
    else:
        reason = LockBusy(f"waiting: {wish}: starts in {left:.1f} s", name=wish.name)
        waited = Waited(slots=tuple(bookings.values()))
        away = Away(called(call, wish.spec), lambda: due - clock.now(), waited, reason)
        send_away(call, away, lambda: _stay(due))


def _wait_in_place(left: float, wishes: Sequence[Wish], bookings: Bookings) -> None:
    while left > 0:
        clock.pause(left)
        try:
            left = max(wish.left(bookings[wish.name]) for wish in wishes if wish.name in bookings)
        except BackendUnavailable as down:
            # The start is ours; only a pause would be missed.
            _logger.warning("a reserved start is used although its backend does not answer: %s", down)
            return


def _stay(until: float) -> float | None:
    """Wait for a while; None: it is not time yet."""
    clock.pause(min(_UNSENT_WAIT, max(0.0, until - clock.now())))
    return until if clock.now() >= until else None
