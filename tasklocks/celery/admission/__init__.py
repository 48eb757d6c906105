"""Admission: a worker takes the leases of a task before the task gets a place in its pool.

A message of a locked task is held, unacknowledged, by the worker's main process until its leases are granted; then it
goes to the pool with them. See docs/admission.md for what may happen to it, and for which thread does what.
"""

from __future__ import annotations

from typing import Any

from celery import signals

from tasklocks.celery.admission.given import Lender
from tasklocks.celery.admission.table import Table
from tasklocks.celery.admission.where import forks, is_on
from tasklocks.celery.interrupt import listen_for_interrupts

__all__: list[str] = []


@signals.worker_init.connect(dispatch_uid="tasklocks.admission")
def _install(sender: Any = None, **_: Any) -> None:
    Lender.near, Lender.table = None, None
    if not is_on(sender):
        return
    # Here, not at the top: Celery's worker modules are heavy, and only a worker needs them.
    from tasklocks.celery.admission.step import AdmissionStep

    Lender.table = Table() if forks(sender) else None
    sender.app.steps["consumer"].add(AdmissionStep)


@signals.worker_process_init.connect(dispatch_uid="tasklocks.admission")
def _expect_interrupts(**_: Any) -> None:
    if Lender.table is not None:
        listen_for_interrupts()
