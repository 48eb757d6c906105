"""Runs a function under its limits: a lease on each of its locks, and a start at each of its rates.

Locks are taken in one order by all, so that no two calls wait for each other, and the last of them together with the
starts, in one step of the backend that has both. Starts elsewhere are reserved after the locks. So no start is used up
while a lock is busy. What a limit that is not free leads to: see `policy`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from tasklocks.celery.admission.given import given_leases
from tasklocks.celery.calls import Call, Kind, current_call, enter_body
from tasklocks.celery.conf import Settings, settings_of
from tasklocks.celery.interrupt import Interruptible
from tasklocks.celery.locks import Attempt, attempt_of, in_one_order, shares, take
from tasklocks.celery.marks import Limit
from tasklocks.celery.rate_spec import RateSpec
from tasklocks.celery.slots import take_slots, tell_started
from tasklocks.celery.spec import LockSpec
from tasklocks.celery.starts import Starts
from tasklocks.celery.wish import wish_of
from tasklocks.celery.work import Work
from tasklocks.errors import BackendUnavailable, LockBusy
from tasklocks.leases import Lease, give_back_unseen, hold_in_order
from tasklocks.news import watched
from tasklocks.started import under

__all__ = ["run_limited"]


def run_limited(body: Callable[..., Any], work: Work, limits: Sequence[Limit]) -> Any:
    """Return what `work` returns, run under `limits`; None if one of them is busy and to be skipped.

    Args:
        body: what Celery runs if it runs this task.
        work: what is to be done.
        limits: locks and rates, outermost first.

    Raises:
        Retry: the task was sent again (in a worker only).
        LockBusy: no permit, or no start now, and the task does not wait.
        LockTimeout: none within `max_wait`.
        BackendUnavailable: nothing is known, and there is no worker that could try again.
    """
    call = current_call(body, limits[0].where)
    settings = settings_of(call.app)
    locks = [each for each in limits if isinstance(each, LockSpec)]
    wishes = [wish_of(each, settings, work) for each in limits if isinstance(each, RateSpec)]
    starts = Starts.of(call, wishes)
    run = Interruptible()
    owners: list[str] = []
    try:
        with ExitStack() as held:
            given = [held.enter_context(lease) for lease in given_leases(call, locks, settings, work, run)]
            attempts = () if given else _attempts(locks, settings, work, run, starts)
            leases = _taken(attempts, starts, held, owners)
            if leases is None:
                return None
            if wishes and watched[0]:
                tell_started(starts)
            enter_body(call)
            with under([wish.started for wish in wishes]):
                return _run(run, work, given or leases, call)
    except BaseException:
        for owner in owners:
            give_back_unseen(owner)
        raise


def _attempts(
    locks: Sequence[LockSpec], settings: Settings, work: Work, run: Interruptible, starts: Starts
) -> Iterator[Attempt]:
    """Yield the attempts to take the locks, each at its turn: a capacity is read as late as that."""
    ordered = in_one_order(locks, settings, work)
    for number, spec, name in ordered:
        yield attempt_of(spec, settings, name, run, starts, number=number, last=number == ordered[-1][0])


def _taken(attempts: Iterable[Attempt], starts: Starts, held: ExitStack, owners: list[str]) -> Sequence[Lease] | None:
    """Take the locks and wait for the starts; return the leases, or None if the call is to be skipped.

    Args:
        attempts: the locks to be taken, in order.
        starts: the starts.
        held: gives the leases back at its end.
        owners: gets the owners of whatever was asked for.
    """
    try:
        leases = _leases(attempts, held, owners)
        if leases is not None and take_slots(starts):
            return leases
    except (LockBusy, BackendUnavailable):
        starts.give_back()
        raise
    starts.give_back()
    return None


def _leases(attempts: Iterable[Attempt], held: ExitStack, owners: list[str]) -> Sequence[Lease] | None:
    """Return the leases, outermost first; None if a lock is busy and the call is to be skipped."""
    taken: dict[int, Lease] = {}
    for attempt in attempts:
        owners.append(attempt.request.owner)
        if shares(attempt):
            continue
        lease = take(attempt)
        if lease is None:
            return None
        taken[attempt.number] = held.enter_context(lease)
    leases = [taken[number] for number in sorted(taken)]
    hold_in_order(leases)
    return leases


def _run(run: Interruptible, work: Work, leases: Sequence[Lease], call: Call) -> Any:
    if call.kind is Kind.DIRECT or not leases:
        # Plain code may be anywhere; it has the lease's flag and check(). Without a lease there is nothing to lose.
        return work.run()
    return run.run(work.run, leases)
