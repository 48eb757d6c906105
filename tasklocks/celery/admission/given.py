"""The leases that came with a task's request: the body finds them here, and takes none itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasklocks.backends import Backend
from tasklocks.celery.admission import overdue
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
        return _near(Lender.near.begin(owner), locks, run)
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
    # All of them, also after one that was taken back: whoever takes back looks at each.
    begun = [table.begin(index, serial) for index, _, serial, *_ in rows]
    leases = [
        _one(owner, row, settings.backend(spec.backend, spec.where), table)
        for row, spec in zip(rows, locks, strict=True)
    ]
    # Lost while it waited for a place: the body takes one of its own, instead of failing before it began.
    if not all(begun) or any(lease.lost for lease in leases):
        for lease in leases:
            lease.release()
        return ()
    run.told_by_signal = [lease for lease, spec in zip(leases, locks, strict=True) if spec.on_lost != "flag"]
    overdue.watch(run)
    return leases


def _one(owner: str, row: Sequence[Any], backend: Backend, table: Table) -> Lent:
    index, name, _, permits, ttl, token = row
    return Lent(backend, Grant(name, owner, permits, ttl, token, table.deadlines[index]), table, index)
