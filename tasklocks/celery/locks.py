"""Takes the lease on one lock of a call, or lets the call wait for it.

A backend that does not answer counts as busy: the body never runs without its lease, and a task is never lost.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence

from tasklocks import clock, waiting
from tasklocks.backends import Backend, fingerprint
from tasklocks.backoff import check_countdown, seconds_away
from tasklocks.celery.calls import Call, Kind
from tasklocks.celery.conf import Settings
from tasklocks.celery.interrupt import Interruptible
from tasklocks.celery.policy import Away, called, patience, patiently, refuse, send_away
from tasklocks.celery.slots import take_slots
from tasklocks.celery.spec import LockSpec
from tasklocks.celery.starts import RefusedError, Starts
from tasklocks.celery.subject import about_call, waited_since
from tasklocks.celery.together import StartsLaterError, asking
from tasklocks.celery.work import Work
from tasklocks.describe import busy_text
from tasklocks.errors import BackendUnavailable, ConfigurationError, LockBusy, LockTimeout
from tasklocks.leases import Lease, held_leases
from tasklocks.news import About, tell, watched
from tasklocks.types import AcquireRequest, Busy, Grant, Place

__all__ = ["Attempt", "attempt_of", "in_one_order", "shares", "take"]

_KEEP_PLACE = 600.0  # seconds that a task which was sent away keeps its place; longer than the longest countdown
_UNSENT_WAIT = 5.0  # seconds in line between two attempts to publish


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """One lock of one call, about to be taken.

    Attributes:
        call: the call.
        spec: what the decorator says of the lock.
        settings: the app's.
        backend: where the lock lives.
        request: what to ask for.
        run: is told when the lease is lost.
        starts: what the call has of its rates.
        number: which of the call's locks it is, counted from the outermost.
        last: no other lock follows, so this one can be taken together with the starts.
    """

    call: Call
    spec: LockSpec
    settings: Settings
    backend: Backend
    request: AcquireRequest
    run: Interruptible
    starts: Starts
    number: int
    last: bool

    @property
    def where(self) -> str:
        """The task and its id, for messages."""
        return called(self.call, self.spec)

    def take(self, timeout: float | None, place: Place | None = None) -> Lease:
        """Return the lease; raises as `waiting.take` does."""
        request = dataclasses.replace(self.request, place=place)
        ask = asking(self.starts, self.backend) if self.last and timeout == 0 else None
        return waiting.take(self.backend, request, self._lease, timeout=timeout, source=self, ask=ask)

    def about(self, limit: str, owner: str) -> About:
        """Return what news of it is about (called by `tasklocks.news`)."""
        asked = self.request
        numbers = {"permits": asked.permits, "capacity": asked.capacity}
        return about_call(self.call, self.spec, limit, self.backend, owner=owner, **numbers)

    def waited_for(self) -> float:
        """Return how long the task has waited before, in seconds (called by `tasklocks.news`)."""
        return waited_since(self.call.waited.since)

    def _lease(self, grant: Grant) -> Lease:
        ways = {"raise": self.run.lose, "terminate": self.run.terminate}
        told = None if self.call.kind is Kind.DIRECT else ways.get(self.spec.on_lost)
        return Lease(self.backend, grant, max_hold=self.spec.max_hold, at_least=self.spec.at_least, on_lost=told)


def in_one_order(locks: Sequence[LockSpec], settings: Settings, work: Work) -> list[tuple[int, LockSpec, str]]:
    """Return the locks with numbers and names, in an order that all calls agree on: no two wait for each other."""

    def place(each: tuple[int, LockSpec, str]) -> tuple[str, str]:
        return fingerprint(settings.backend(each[1].backend, each[1].where)), each[2]

    named = [(number, spec, spec.key(work.key_args, work.kwargs)) for number, spec in enumerate(locks)]
    return sorted(named, key=place)


def attempt_of(
    spec: LockSpec, settings: Settings, name: str, run: Interruptible, starts: Starts, *, number: int, last: bool
) -> Attempt:
    """Return the attempt of this delivery; nobody else has its owner."""
    call = starts.call
    owner = f"{call.id or 'direct'}:{secrets.token_hex(6)}"
    ttl = settings.ttl if spec.ttl is None else spec.ttl
    backend = settings.backend(spec.backend, spec.where)
    request = AcquireRequest(name, owner, spec.permits, spec.capacity_now(backend, name), ttl, info=call.info())
    return Attempt(call, spec, settings, backend, request, run, starts, number, last)


def shares(attempt: Attempt) -> bool:
    """Tell whether this call may run under a lease that its caller holds already."""
    return attempt.spec.reentrant and bool(_own(attempt))


def take(attempt: Attempt) -> Lease | None:
    """Return the lease; None if a limit is busy and the call is to be skipped."""
    try:
        return _take(attempt)
    except RefusedError as refusal:
        refuse(attempt.call, refusal.wish.spec, refusal.busy)
        return None
    except StartsLaterError:
        pass
    # This sends the task away. Only where that cannot be it returns, when the start has come.
    return _take(attempt) if take_slots(attempt.starts) else None


def _take(attempt: Attempt) -> Lease | None:
    own = _own(attempt)
    if own and sum(lease.permits for lease in own) + attempt.request.permits > attempt.request.capacity:
        _refuse_for_its_own(attempt)
        return None
    if attempt.call.kind is not Kind.BODY:
        return _take_in_place(attempt)
    if attempt.spec.on_busy == "retry":
        return _take_or_send_again(attempt)
    try:
        return attempt.take(patience(attempt.call, attempt.spec))
    except LockBusy as busy:
        refuse(attempt.call, attempt.spec, busy)
        return None
    except (BackendUnavailable, ConfigurationError) as down:
        return _unreachable(attempt, down)


def _own(attempt: Attempt) -> list[Lease]:
    """Return the caller's own leases on the limit, as far as they are not lost."""
    mine = [lease for lease in held_leases() if lease.name == attempt.request.name]
    return [lease for lease in mine if lease.backend is attempt.backend and not lease.lost]


def _refuse_for_its_own(attempt: Attempt) -> None:
    """Skip or raise at once: the caller's own leases keep this one from ever being granted."""
    text = (
        f"limit {attempt.request.name!r} is held by the very caller that asks for it again; "
        "reentrant=True lets the inner call share the lease"
    )
    refuse(attempt.call, attempt.spec, LockBusy(text, name=attempt.request.name))


def _take_in_place(attempt: Attempt) -> Lease | None:
    """Take the lease where nothing can be sent again."""
    try:
        return patiently(patience(attempt.call, attempt.spec), attempt.take)
    except LockBusy as busy:
        refuse(attempt.call, attempt.spec, busy)
        return None


def _unreachable(attempt: Attempt, down: BackendUnavailable | ConfigurationError) -> Lease:
    """Treat the limit as busy. A refused password counts too: it may have been changed while the worker runs."""
    if attempt.spec.on_backend_error == "raise":
        raise down
    tell("unreachable", attempt, attempt.request.name, attempt.request.owner, reason=str(down))
    return _send_away(attempt, None, LockBusy(f"the backend is not usable: {down}", name=attempt.request.name))


def _take_or_send_again(attempt: Attempt) -> Lease:
    place = Place(f"task:{attempt.call.id}", _KEEP_PLACE)
    try:
        return attempt.take(0.0, place)
    except LockBusy as busy:
        return _send_away(attempt, busy.busy, busy)
    except (BackendUnavailable, ConfigurationError) as down:
        return _unreachable(attempt, down)


def _send_away(attempt: Attempt, busy: Busy | None, reason: LockBusy) -> Lease:
    """Send the task again. Returns a lease only if it cannot be sent and a permit comes free meanwhile."""
    waited = attempt.call.waited
    since = waited.since if waited.since is not None or busy is None else busy.server_time
    ends = clock.now() + _time_left(attempt, busy, since)
    countdown = min(_countdown(attempt, busy), ends - clock.now())
    if busy is not None:
        attempt.starts.give_back(used_at=busy.server_time + countdown)
    slots = tuple(attempt.starts.booked.values())
    waited = dataclasses.replace(waited, times=waited.times + 1, since=since, slots=slots)
    if watched[0] and busy is not None:
        _tell_waiting(attempt, busy, reason)
    away = Away(attempt.where, lambda: countdown, waited, LockBusy(f"waiting: {reason}", name=reason.name, busy=busy))
    return send_away(attempt.call, away, lambda: _take_unsent(attempt, ends))


def _tell_waiting(attempt: Attempt, busy: Busy, reason: LockBusy) -> None:
    name, owner = attempt.request.name, attempt.request.owner
    tell("waiting", attempt, name, owner, waited=attempt.waited_for(), place=busy.ahead, reason=str(reason))


def _take_unsent(attempt: Attempt, ends: float) -> Lease | None:
    """Stand in line for a while; None: in vain."""
    try:
        return attempt.take(_UNSENT_WAIT)
    except (LockBusy, BackendUnavailable, ConfigurationError):
        if clock.now() >= ends:
            raise
        clock.pause(0.1)
        return None


def _countdown(attempt: Attempt, busy: Busy | None) -> float:
    chosen = attempt.spec.countdown if attempt.spec.countdown is not None else attempt.settings.countdown
    waits, since, permits = attempt.call.waited.times, attempt.call.waited.since, attempt.spec.permits
    waited = busy.server_time - since if busy is not None and since is not None else 0.0
    return seconds_away(check_countdown(chosen, attempt.where), busy, waits, permits, attempt.where, waited=waited)


def _time_left(attempt: Attempt, busy: Busy | None, since: float | None) -> float:
    """Return the seconds that the task may still wait.

    Raises:
        LockTimeout: there are none left.
    """
    bound = attempt.spec.max_wait
    if bound is None or busy is None or since is None:
        return float("inf")
    left = bound - (busy.server_time - since)
    if left <= 0:
        why = busy_text(attempt.request.name, busy)
        tell("timed_out", attempt, attempt.request.name, attempt.request.owner, waited=bound - left, reason=why)
        raise LockTimeout(
            f"{attempt.where}: gave up after {bound:g} s of waiting: {why}", name=attempt.request.name, busy=busy
        )
    return left
