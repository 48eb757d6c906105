"""The leases that came with a task's request: the body finds them here, and takes none itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from tasklocks.celery.admission.lent import Lent
from tasklocks.celery.admission.loans import NearLease, NearLoans
from tasklocks.celery.admission.table import Table
from tasklocks.celery.calls import LEASES, Call, Kind
from tasklocks.celery.conf import Settings
from tasklocks.celery.interrupt import Interruptible
from tasklocks.celery.spec import LockSpec
from tasklocks.celery.work import Work
from tasklocks.leases import Lease
from tasklocks.types import Grant

__all__ = ["Lender", "given_leases"]


class Lender:
    """What the main process lends by; a pool's processes inherit it."""

    table: Table | None = None
    near: NearLoans | None = None


def given_leases(
    call: Call, locks: Sequence[LockSpec], settings: Settings, work: Work, run: Interruptible
) -> Sequence[Lease]:
    """Return a lease for each lock, in order, if the main process has taken them for this call; else none.

    If they are not those of `locks`, as this process knows the task, they are left to the main process.
    """
    given = getattr(call.task.request, LEASES, None) if call.kind is Kind.BODY and call.task is not None else None
    if not given:
        return ()
    owner, rows = given
    names = [spec.key(work.key_args, work.kwargs) for spec in locks]
    if [row[1] for row in rows] != names:
        return ()
    if Lender.near is not None:
        return _near(Lender.near.lent_to(owner), locks, run)
    return _lent(owner, rows, locks, settings, run)


def _near(leases: Sequence[NearLease], locks: Sequence[LockSpec], run: Interruptible) -> Sequence[Lease]:
    for lease, spec in zip(leases, locks, strict=False):
        if spec.on_lost != "flag":
            lease.tell = run.lose
    return leases


def _lent(
    owner: str, rows: Sequence[Any], locks: Sequence[LockSpec], settings: Settings, run: Interruptible
) -> Sequence[Lease]:
    table = Lender.table
    if table is None:
        return ()
    leases = []
    for (index, name, permits, ttl, token), spec in zip(rows, locks, strict=True):
        table.users[index] = os.getpid()
        grant = Grant(name, owner, permits, ttl, token, table.deadlines[index])
        leases.append(Lent(settings.backend(spec.backend, spec.where), grant, table, index))
    if any(lease.lost for lease in leases):
        # Taken back, or lost, on the way here.
        for lease in leases:
            lease.release()
        return ()
    run.told_by_signal = [lease for lease, spec in zip(leases, locks, strict=True) if spec.on_lost != "flag"]
    return leases
