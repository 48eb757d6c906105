"""Tells a body whose lent leases have run out, if the main process does not: it may stand still, and renew nothing.

In a process of a pool, on a thread that sleeps until the first deadline that it knows. That the main process has
written a later one meanwhile is found then, so it wakes about once in a ttl, however many bodies run here.
"""

from __future__ import annotations

import math
import queue
import threading

from tasklocks import clock
from tasklocks.celery.interrupt import Interruptible
from tasklocks.fork import PerProcess

__all__ = ["watch"]


class _Overdue:
    def __init__(self) -> None:
        self._run = Interruptible()
        self._wakes_at = math.inf
        self._sooner: queue.SimpleQueue[None] = queue.SimpleQueue()
        threading.Thread(target=self._watch, name="tasklocks-overdue", daemon=True).start()

    def begin(self, run: Interruptible) -> None:
        # In this order, and the thread in the other one: so one of the two sees what the other has just written.
        self._run = run
        if any(lease.grant.deadline < self._wakes_at for lease in run.told_by_signal):
            self._sooner.put(None)

    def _watch(self) -> None:
        while True:
            self._wakes_at = math.inf
            left = _look(self._run)
            self._wakes_at = clock.now() + left
            try:
                self._sooner.get(timeout=left if left < math.inf else None)
            except queue.Empty:
                continue


def _look(run: Interruptible) -> float:
    """Tell `run` of what it has lost, and return in how many seconds it may lose something else."""
    left = math.inf
    for lease in run.told_by_signal:
        if lease.lost:
            run.lose(lease)
        elif not lease.released:
            left = min(left, lease.expires_in())
    return left


_overdue = PerProcess(_Overdue)


def watch(run: Interruptible) -> None:
    """Watch over the leases of the body that begins here, instead of those of the one before it."""
    if run.told_by_signal:
        _overdue().begin(run)
