"""Tells a body whose lent leases have run out, if the main process does not: it may stand still, and renew nothing.

In a process of a pool, on a thread that sleeps until the first deadline that it knows. That the main process has
written a later one meanwhile is found then, so it wakes about once in a ttl, however many bodies run here.
"""

from __future__ import annotations

import math
import os
import queue
import threading
from collections.abc import Sequence

from tasklocks import clock
from tasklocks.celery.interrupt import interrupt_process
from tasklocks.fork import PerProcess
from tasklocks.leases import Lease

__all__ = ["watch"]


class _Overdue:
    def __init__(self) -> None:
        self._leases: Sequence[Lease] = ()
        self._wakes_at = math.inf
        self._sooner: queue.SimpleQueue[None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="tasklocks-overdue", daemon=True).start()

    def watch(self, leases: Sequence[Lease]) -> None:
        # In this order, and the thread in the other one: so one of the two sees what the other has just written.
        self._leases = leases
        if any(lease.grant.deadline < self._wakes_at for lease in leases):
            self._sooner.put(None)

    def _run(self) -> None:
        while True:
            self._wakes_at = math.inf
            leases = self._leases
            left = min((each.expires_in() for each in leases if not each.released and not each.lost), default=None)
            if any(each.lost for each in leases):
                interrupt_process(os.getpid())
            if left is not None:
                self._wakes_at = clock.now() + left
            try:
                self._sooner.get(timeout=left)
            except queue.Empty:
                continue


_overdue = PerProcess(_Overdue)


def watch(leases: Sequence[Lease]) -> None:
    """Watch over the leases of the body that begins here, instead of those of the one before it."""
    if leases:
        _overdue().watch(leases)
