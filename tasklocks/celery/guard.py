"""Runs a function with leases on its limits, and decides what a busy limit leads to: the one place for all backends.

| the limit is busy and | in a worker's task | in a map, or called directly |
|---|---|---|
| `on_busy="retry"` | sent again with a countdown | waits in place |
| `"wait"` | waits in place | waits in place |
| `"skip"` | ends without running | returns None |
| `"raise"` | `LockBusy` | `LockBusy` |

A backend that does not answer counts as busy: the body never runs without its lease, and a task is never lost.
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from celery.exceptions import Retry, SoftTimeLimitExceeded

from tasklocks import clock, waiting
from tasklocks.backends import Backend
from tasklocks.backoff import check_countdown, seconds_away, when_unreachable
from tasklocks.celery.calls import Call, Kind, Waited, current_call, enter_body
from tasklocks.celery.conf import Settings, settings_of
from tasklocks.celery.interrupt import Interruptible
from tasklocks.celery.resend import send_again
from tasklocks.celery.spec import LimitSpec
from tasklocks.describe import busy_text
from tasklocks.errors import BackendUnavailable, ConfigurationError, LockBusy, LockTimeout
from tasklocks.leases import Lease, give_back_unseen, held_leases
from tasklocks.types import AcquireRequest, Busy, Grant, Place

__all__ = ["run_limited"]

_KEEP_PLACE = 600.0  # seconds that a task which was sent away keeps its place; longer than the longest countdown
_UNSENT_WAIT = 5.0  # seconds in line between two attempts to publish

_logger = logging.getLogger("tasklocks")


@dataclasses.dataclass(frozen=True, slots=True)
class _Attempt:
    """One limit of one call, about to be acquired."""

    call: Call
    spec: LimitSpec
    settings: Settings
    backend: Backend
    request: AcquireRequest
    run: Interruptible

    @property
    def where(self) -> str:
        """The task and its id, for messages."""
        return f"{self.spec.where}[{self.call.id}]" if self.call.id else self.spec.where

    def take(self, timeout: float | None, place: Place | None = None) -> Lease:
        request = dataclasses.replace(self.request, place=place)
        return waiting.take(self.backend, request, self._lease, timeout=timeout)

    def _lease(self, grant: Grant) -> Lease:
        ways = {"raise": self.run.lose, "terminate": self.run.terminate}
        told = None if self.call.kind is Kind.DIRECT else ways.get(self.spec.on_lost)
        return Lease(self.backend, grant, max_hold=self.spec.max_hold, at_least=self.spec.at_least, on_lost=told)


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """A call that needs leases.

    Attributes:
        function: the user's function.
        args: its positional arguments.
        kwargs: its keyword arguments.
        key_args: the positional arguments from which the limits' names are made.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    key_args: tuple[Any, ...]


def run_limited(body: Callable[..., Any], work: Work, limits: Sequence[LimitSpec]) -> Any:
    """Return what `work` returns, run with a lease on each of `limits`; None if one is busy and to be skipped.

    Args:
        body: what Celery runs if it runs this task.
        work: what is to be done.
        limits: what must be held meanwhile, outermost first.

    Raises:
        Retry: the task was sent again (in a worker only).
        LockBusy: no permit, and the task does not wait.
        LockTimeout: no permit within `max_wait`.
        BackendUnavailable: nothing is known, and there is no worker that could try again.
    """
    call = current_call(body, limits[0].where)
    settings = settings_of(call.app)
    run = Interruptible()
    leases: list[Lease] = []
    owners: list[str] = []
    try:
        with ExitStack() as held:
            for spec in limits:
                attempt = _attempt(call, spec, settings, spec.key(work.key_args, work.kwargs), run)
                owners.append(attempt.request.owner)
                if _shares(attempt):
                    continue
                lease = _take(attempt)
                if lease is None:
                    return None
                leases.append(held.enter_context(lease))
            enter_body(call)
            return _run(run, work, leases, call)
    except BaseException:
        for owner in owners:
            give_back_unseen(owner)
        raise


def _run(run: Interruptible, work: Work, leases: Sequence[Lease], call: Call) -> Any:
    if call.kind is Kind.DIRECT:
        # Plain code may be anywhere; it has the lease's flag and check().
        return work.function(*work.args, **work.kwargs)
    return run.run(lambda: work.function(*work.args, **work.kwargs), leases)


def _attempt(call: Call, spec: LimitSpec, settings: Settings, name: str, run: Interruptible) -> _Attempt:
    owner = f"{call.id or 'direct'}:{secrets.token_hex(6)}"
    ttl = settings.ttl if spec.ttl is None else spec.ttl
    request = AcquireRequest(name, owner, spec.permits, spec.capacity_now(), ttl, info=call.info())
    return _Attempt(call, spec, settings, settings.backend(spec.backend, spec.where), request, run)


def _shares(attempt: _Attempt) -> bool:
    """Tell whether this call may run under a lease that its caller holds already.

    Raises:
        LockBusy: the caller's own leases keep this one from ever being granted.
    """
    request = attempt.request
    own = [lease for lease in held_leases() if lease.name == request.name and lease.backend is attempt.backend]
    live = [lease for lease in own if not lease.lost]
    if live and attempt.spec.reentrant:
        return True
    if live and sum(lease.permits for lease in live) + request.permits > request.capacity:
        raise LockBusy(
            f"{attempt.where}: limit {request.name!r} is held by the very caller that asks for it again; "
            "reentrant=True lets the inner call share the lease",
            name=request.name,
        )
    return False


def _take(attempt: _Attempt) -> Lease | None:
    """Return the lease; None if the limit is busy and the call is to be skipped."""
    if attempt.call.kind is not Kind.BODY:
        return _take_in_place(attempt)
    if attempt.spec.on_busy == "retry":
        return _take_or_send_again(attempt)
    try:
        return attempt.take(_patience(attempt))
    except LockBusy as busy:
        _refuse(attempt, busy)
        return None
    except (BackendUnavailable, ConfigurationError) as down:
        return _unreachable(attempt, down)


def _take_in_place(attempt: _Attempt) -> Lease | None:
    """Take the lease where nothing can be sent again."""
    try:
        return _wait_in_place(attempt, _patience(attempt))
    except LockBusy as busy:
        _refuse(attempt, busy)
        return None


def _wait_in_place(attempt: _Attempt, timeout: float | None) -> Lease:
    began = clock.now()
    tries = 0
    while True:
        left = None if timeout is None else max(0.0, timeout - (clock.now() - began))
        try:
            return attempt.take(left)
        except BackendUnavailable:
            tries += 1
            pause = when_unreachable(tries)
            if left is not None and left <= pause:
                raise
            clock.pause(pause)


def _patience(attempt: _Attempt) -> float | None:
    """Return for how long the call waits in place, in seconds; None: without bound."""
    spec = attempt.spec
    if spec.on_busy in ("skip", "raise"):
        return 0.0
    if spec.max_wait is None:
        return 0.0 if attempt.call.kind is Kind.DIRECT else None
    return spec.max_wait


def _refuse(attempt: _Attempt, busy: LockBusy) -> None:
    """Note the skip, or raise."""
    if attempt.spec.on_busy == "skip":
        _skip(attempt, busy)
        return
    raise type(busy)(f"{attempt.where}: {busy}", name=busy.name, busy=busy.busy) from None


def _skip(attempt: _Attempt, busy: LockBusy) -> None:
    _logger.info("%s is skipped: %s", attempt.where, busy)
    if attempt.call.kind is not Kind.BODY or attempt.call.task is None:
        return
    try:
        attempt.call.task.send_event("task-lock-skipped", limit=attempt.request.name, retry=False)
    except Exception:
        # An event is news, not state: a broker that does not take it must not turn a skip into a failure.
        _logger.warning("%s: the event of its skip was not sent", attempt.where, exc_info=True)


def _unreachable(attempt: _Attempt, down: BackendUnavailable | ConfigurationError) -> Lease:
    """Treat the limit as busy. A refused password counts too: it may have been changed while the worker runs."""
    if attempt.spec.on_backend_error == "raise":
        raise down
    _logger.warning("%s waits, for its backend is not usable: %s", attempt.where, down)
    return _send_away(attempt, None, LockBusy(f"the backend is not usable: {down}", name=attempt.request.name))


def _take_or_send_again(attempt: _Attempt) -> Lease:
    place = Place(f"task:{attempt.call.id}", _KEEP_PLACE)
    try:
        return attempt.take(0.0, place)
    except LockBusy as busy:
        return _send_away(attempt, busy.busy, busy)
    except (BackendUnavailable, ConfigurationError) as down:
        return _unreachable(attempt, down)


def _send_away(attempt: _Attempt, busy: Busy | None, reason: LockBusy) -> Lease:
    """Send the task again. Returns a lease only if it cannot be sent and a permit comes free meanwhile."""
    waited = attempt.call.waited
    since = waited.since if waited.since is not None or busy is None else busy.server_time
    ends = clock.now() + _time_left(attempt, busy, since)
    countdown = round(min(_countdown(attempt, busy), ends - clock.now()), 3)
    while True:
        try:
            sent = send_again(attempt.call.task, countdown, Waited(waited.times + 1, since))
        except SoftTimeLimitExceeded:
            raise
        except Exception:
            # The message may be acknowledged already: raising now would lose the task. So it stays and stands in line.
            _logger.warning("%s waits here: it could not be sent again", attempt.where, exc_info=True)
        else:
            raise Retry(exc=LockBusy(f"waiting: {reason}", name=reason.name, busy=busy), when=countdown, sig=sent)
        try:
            return attempt.take(_UNSENT_WAIT)
        except (LockBusy, BackendUnavailable, ConfigurationError):
            if clock.now() >= ends:
                raise
            clock.pause(0.1)


def _countdown(attempt: _Attempt, busy: Busy | None) -> float:
    chosen = attempt.spec.countdown if attempt.spec.countdown is not None else attempt.settings.countdown
    waits, permits = attempt.call.waited.times, attempt.spec.permits
    return seconds_away(check_countdown(chosen, attempt.where), busy, waits, permits, attempt.where)


def _time_left(attempt: _Attempt, busy: Busy | None, since: float | None) -> float:
    """Return the seconds that the task may still wait.

    Raises:
        LockTimeout: there are none left.
    """
    bound = attempt.spec.max_wait
    if bound is None or busy is None or since is None:
        return float("inf")
    left = bound - (busy.server_time - since)
    if left <= 0:
        raise LockTimeout(
            f"{attempt.where}: gave up after {bound:g} s of waiting: {busy_text(attempt.request.name, busy)}",
            name=attempt.request.name,
            busy=busy,
        )
    return left
