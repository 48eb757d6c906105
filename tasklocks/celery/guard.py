"""Runs a function under its limits: first a lease on each of its locks, then a start at each of its rates.

In this order, so that no start is used up while a lock is busy. What a limit that is not free leads to: see `policy`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from tasklocks.celery.admission.given import given_leases
from tasklocks.celery.calls import Call, Kind, current_call, enter_body
from tasklocks.celery.conf import settings_of
from tasklocks.celery.interrupt import Interruptible
from tasklocks.celery.locks import attempt_of, shares, take
from tasklocks.celery.marks import Limit
from tasklocks.celery.rate_spec import RateSpec
from tasklocks.celery.slots import take_slots
from tasklocks.celery.spec import LockSpec
from tasklocks.celery.wish import wish_of
from tasklocks.celery.work import Work
from tasklocks.leases import Lease, give_back_unseen
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
    run = Interruptible()
    leases: list[Lease] = []
    owners: list[str] = []
    try:
        with ExitStack() as held:
            leases += [held.enter_context(lease) for lease in given_leases(call, locks, settings, work, run)]
            for spec in locks[len(leases) :]:
                attempt = attempt_of(call, spec, settings, spec.key(work.key_args, work.kwargs), run)
                owners.append(attempt.request.owner)
                if shares(attempt):
                    continue
                lease = take(attempt)
                if lease is None:
                    return None
                leases.append(held.enter_context(lease))
            if not take_slots(call, wishes):
                return None
            enter_body(call)
            with under([wish.started for wish in wishes]):
                return _run(run, work, leases, call)
    except BaseException:
        for owner in owners:
            give_back_unseen(owner)
        raise


def _run(run: Interruptible, work: Work, leases: Sequence[Lease], call: Call) -> Any:
    if call.kind is Kind.DIRECT or not leases:
        # Plain code may be anywhere; it has the lease's flag and check(). Without a lease there is nothing to lose.
        return work.run()
    return run.run(work.run, leases)
