"""`Lent`: a lease that the worker's main process holds for the body that runs here."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

from tasklocks import clock
from tasklocks.backends import Backend
from tasklocks.celery.admission.door import say_ended
from tasklocks.celery.admission.table import LOST, Table
from tasklocks.leases import Lease
from tasklocks.types import Grant

__all__ = ["Lent"]


class Lent(Lease):
    """As any lease, but the main process renews it, and ends it when it is told that the body has ended.

    Args:
        backend: where the limit lives.
        grant: the lease as it was when it was lent.
        table: where the main process writes until when it lasts.
        index: where in the table.
    """

    __slots__ = ("_index", "_table")

    def __init__(self, backend: Backend, grant: Grant, table: Table, index: int) -> None:
        self.backend = backend
        self.grant = grant
        self.made_by: object = None
        self.source = None
        self.hold_until = math.inf
        self._table = table
        self._index = index
        self._since = clock.now()
        self._at_least = 0.0
        self._on_lost: Any = None
        self._reason = ""
        self._released = False
        self._pid = os.getpid()

    @property
    def lost(self) -> bool:
        """See `Lease.lost`."""
        self._look()
        return super().lost

    def expires_in(self) -> float:
        """See `Lease.expires_in`."""
        self._look()
        return super().expires_in()

    def _look(self) -> None:
        if self._released or self._reason:
            return
        deadline = self._table.deadlines[self._index]
        if deadline == LOST:
            self._reason = "it expired or was taken away"
        elif deadline > self.grant.deadline:
            self.grant = dataclasses.replace(self.grant, deadline=deadline)

    def _note_loss(self, reason: str) -> None:
        # The main process tells of it.
        self._reason = reason

    def _give_back(self) -> bool:
        say_ended(self._index, self.owner)
        return True
