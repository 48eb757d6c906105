"""What `celery inspect` shows of limits, as the workers themselves know it.

The backend is not asked, so the answer is there also when it is down, and the worker's event loop does not stand still.
"""

from __future__ import annotations

import os
from typing import Any

from celery.worker.control import inspect_command

from tasklocks.celery.admission.loans import FarLease
from tasklocks.celery.admission.overview import told
from tasklocks.celery.watch import children
from tasklocks.celery.whereabouts import whereabouts
from tasklocks.renewal import renewal

__all__ = ["limits", "limits_why"]


@inspect_command()
def limits(state: Any) -> list[dict[str, Any]]:
    """Show the limits that the tasks of each worker hold or wait for."""
    here = [_row(_user(lease), lease.grant.name, lease.grant.owner) for lease in renewal().leases()]
    there = [_row(pid, entry.name, entry.owner) for pid, entries in children().items() for entry in entries]
    waiting = [{**row, "pid": os.getpid()} for row in told(state.consumer)]
    # In a stable order, so each line as it stands: oldest first.
    return sorted([*here, *there, *waiting], key=lambda row: (row["limit"], "place" in row))


@inspect_command(args=[("task_id", str)], signature="TASK_ID")
def limits_why(state: Any, task_id: str) -> list[dict[str, Any]]:
    """Show where in each worker a task is (by its id, or the beginning of it), and what it waits for there."""
    return whereabouts(state.consumer, task_id)


def _user(lease: Any) -> int:
    """Return the process that runs the task; this one, if it did not begin yet."""
    return (isinstance(lease, FarLease) and lease.user) or os.getpid()


def _row(pid: int, name: str, owner: str) -> dict[str, Any]:
    # An owner is a task's id and a nonce of its delivery.
    return {"limit": name, "task": owner.rpartition(":")[0] or owner, "pid": pid}
