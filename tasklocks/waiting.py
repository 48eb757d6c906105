"""The one loop in which every blocking acquire waits: in line, woken by the backend, looking again by itself.

A waiter looks again when the backend wakes it, when the first lease in front of it ends unless renewed (only the head
of the line does: no herd), and a few times within its place's lifetime, which keeps the place and repairs a lost
wake-up. A backend without push is asked at short intervals.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable

from tasklocks import clock, ledger
from tasklocks.backends import fingerprint
from tasklocks.backends.base import WAITER_TTL, Backend, Listener
from tasklocks.describe import busy_text
from tasklocks.errors import BackendUnavailable, LockBusy, LockTimeout, TaskLocksError
from tasklocks.leases import Lease, give_back_unseen
from tasklocks.news import Source, tell, watched
from tasklocks.types import AcquireRequest, Busy, Grant, Place

__all__ = ["acquire", "take", "warn_of_capacity"]

_LOOK = WAITER_TTL / 3
_POLL = 0.05
_MARGIN = 0.005  # after an expiry: an answer in time beats one that is a hair too early
_SHORT_HOLD = 0.2
_PATIENCE = WAITER_TTL  # seconds of an unreachable backend that a wait survives

_logger = logging.getLogger("tasklocks")
_warned: set[tuple[str, int, int]] = set()

Ask = Callable[[AcquireRequest], Grant | Busy]


def take(
    backend: Backend,
    request: AcquireRequest,
    hold: Callable[[Grant], Lease],
    *,
    timeout: float | None,
    source: Source | None = None,
    ask: Ask | None = None,
) -> Lease:
    """Return `hold` of what `acquire` returns; raises as `acquire` does.

    Args:
        backend: where the limit lives.
        request: what is wanted.
        hold: makes a lease of the grant.
        timeout: seconds, see `acquire`.
        source: knows what news of it is about; None: there is none.
        ask: see `acquire`.
    """
    try:
        if watched[0] and source is not None:
            lease = _take_watched(backend, request, hold, timeout=timeout, source=source, ask=ask)
        else:
            lease = hold(acquire(backend, request, timeout=timeout, ask=ask))
        lease.source = source
        return lease  # noqa: TRY300 - what strikes here must find its handler
    except TaskLocksError:
        raise
    except BaseException:
        # It struck anywhere (a soft time limit, Ctrl-C): the permit may be ours, and nobody knows.
        give_back_unseen(request.owner)
        _step_out(backend, request)
        raise


def _take_watched(
    backend: Backend,
    request: AcquireRequest,
    hold: Callable[[Grant], Lease],
    *,
    timeout: float | None,
    source: Source,
    ask: Ask | None,
) -> Lease:
    began, before = clock.now(), source.waited_for()
    told: list[Busy] = []

    def waits(busy: Busy) -> bool:
        if not told:
            tell("waiting", source, request.name, request.owner, waited=before, place=busy.ahead)
        told[:] = [busy]
        return True

    lease = hold(acquire(backend, request, timeout=timeout, go_on=waits, ask=ask))
    waited = before + clock.now() - began
    tell("acquired", source, request.name, request.owner, waited=waited, token=lease.fencing_token)
    return lease


def acquire(
    backend: Backend,
    request: AcquireRequest,
    *,
    timeout: float | None,
    go_on: Callable[[Busy], bool] = lambda busy: True,
    ask: Ask | None = None,
) -> Grant:
    """Return a lease, waiting up to `timeout` seconds in line (None: without bound, 0: not at all).

    Args:
        backend: where the limit lives.
        request: what is wanted.
        timeout: seconds.
        go_on: gets each busy answer; False ends the wait. It is asked a few times within WAITER_TTL.
        ask: asks the backend before there is a place in line; what it raises ends the wait. None: `Backend.acquire`.

    Raises:
        LockBusy: not free, and `timeout` is 0.
        LockTimeout: not free within `timeout`, or not to be waited for any more.
        BackendUnavailable: the backend does not answer, or stopped answering for too long during the wait.
    """
    ledger.note(fingerprint(backend), request.name, request.owner)
    try:
        return _acquire(backend, request, timeout, go_on, ask or backend.acquire)
    except BaseException:
        ledger.strike(request.owner)
        raise


def _acquire(
    backend: Backend, request: AcquireRequest, timeout: float | None, go_on: Callable[[Busy], bool], ask: Ask
) -> Grant:
    began = clock.now()
    if timeout == 0 or not backend.listening:
        answer = _ask(ask, request)
        if isinstance(answer, Grant):
            return answer
        if timeout == 0:
            raise LockBusy(busy_text(request.name, answer), name=request.name, busy=answer)
    deadline = math.inf if timeout is None else began + timeout
    granted: Grant | None = None
    listener = backend.listen(request.owner)
    try:
        granted = _wait_in_line(backend, _in_line(request, listener), listener, deadline, go_on)
    finally:
        listener.close()
        if granted is None:
            _step_out(backend, request)
    return granted


def warn_of_capacity(name: str, was: int | None, now: int) -> None:
    """Say once a process that two capacities are in use for one limit."""
    if was is None or (name, was, now) in _warned:
        return
    _warned.add((name, was, now))
    _logger.warning("limit %r: its capacity was %d, now it is %d; the newer one counts", name, was, now)


def _in_line(request: AcquireRequest, listener: Listener) -> AcquireRequest:
    return dataclasses.replace(request, place=Place(request.owner, WAITER_TTL, listener.address))


def _wait_in_line(
    backend: Backend, request: AcquireRequest, listener: Listener, deadline: float, go_on: Callable[[Busy], bool]
) -> Grant:
    answered = clock.now()
    last: Busy | None = None
    while True:
        try:
            answer = _ask(backend.acquire, request)
        except BackendUnavailable:
            # A restart passes; a caller that may wait need not see it.
            if clock.now() >= min(deadline, answered + _PATIENCE):
                raise
            listener.wait(_POLL, last) if last else clock.pause(_POLL)
            continue
        if isinstance(answer, Grant):
            return answer
        last, answered = answer, clock.now()
        if answered >= deadline or not go_on(last):
            raise LockTimeout(f"gave up waiting: {busy_text(request.name, last)}", name=request.name, busy=last)
        pushed = listener.wait(min(deadline - answered, _look_again_in(backend, last)), last)
        if pushed is not None and clock.now() < pushed.deadline and _usually_short(last):
            return pushed


def _ask(ask: Ask, request: AcquireRequest) -> Grant | Busy:
    answer = ask(request)
    if answer.capacity_was is not None:
        warn_of_capacity(request.name, answer.capacity_was, request.capacity)
    return answer


def _look_again_in(backend: Backend, busy: Busy) -> float:
    if not backend.capabilities.push:
        return _POLL
    if busy.ahead == 0 and busy.retry_after is not None:
        return min(busy.retry_after + _MARGIN, _LOOK)
    return _LOOK


def _usually_short(busy: Busy) -> bool:
    """Tell whether a pushed lease is long enough as it is, for a moment.

    It lasts GRANT_TTL until the renewal extends it. A body that then keeps the interpreter to itself for longer would
    lose it, so only where holds are short is the round trip saved that extends it before the body starts.
    """
    return busy.usual_hold is not None and busy.usual_hold < _SHORT_HOLD


def _step_out(backend: Backend, request: AcquireRequest) -> None:
    try:
        backend.release(request.name, request.owner)
    except BackendUnavailable:
        _logger.debug("the place in line of %s for %r lapses by itself", request.owner, request.name)
