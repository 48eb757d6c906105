"""The leases of tasks that are in the pool: held and renewed here, used there.

In a pool of threads the body uses the very same leases and ends them itself. A pool's process gets numbers; it writes
into a table that it uses a lease, reads there how long it lasts, and says when its body has ended. Whatever it does not
say, its result does, or its end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from tasklocks import clock
from tasklocks.celery import interrupt
from tasklocks.celery.admission.errands import Errands
from tasklocks.celery.admission.held import Held, Want
from tasklocks.celery.admission.table import LOST, Table
from tasklocks.leases import Lease, give_back
from tasklocks.types import Grant

__all__ = ["FarLease", "FarLoans", "Loans", "NearLease", "NearLoans"]

_ROOM = 256  # indices that stay free for leases which are being asked for

_logger = logging.getLogger("tasklocks")


class Loans(Protocol):
    """What the event loop needs of either kind."""

    def __len__(self) -> int:
        """Return how many tasks have leases of ours."""

    @property
    def full(self) -> bool:
        """Whether no more can be lent now."""

    def lease(self, want: Want, grant: Grant) -> Lease:
        """Return a lease of the grant, renewed from now on."""

    def lend(self, held: Held, leases: Sequence[Lease]) -> list[Any]:
        """Keep the leases for a task that goes to the pool; return what its request carries."""

    def over(self, owner: str) -> None:
        """Give back what is left of a task's leases: its body has ended."""

    def take_back(self, owner: str) -> None:
        """Give a task's leases back if it has not begun and will not: if it has, its end will be known."""

    def take_back_idle(self, before: float) -> None:
        """Do that for all tasks that got their leases before that moment (local clock)."""


class NearLease(Lease):
    """A lease that is there before the body that is to be told of its loss."""

    __slots__ = ("tell",)

    def __init__(self, want: Want, grant: Grant) -> None:
        self.tell: Callable[[Lease], None] | None = None
        spec = want.spec
        super().__init__(want.backend, grant, max_hold=spec.max_hold, at_least=spec.at_least, on_lost=self._tell)

    def _tell(self, lease: Lease) -> None:
        if self.tell is not None:
            self.tell(lease)


class NearLoans:
    """For a pool in this very process."""

    full = False

    def __init__(self, errands: Errands) -> None:
        self._errands = errands
        self._idle: dict[str, tuple[float, Sequence[NearLease]]] = {}
        self._used: dict[str, Sequence[NearLease]] = {}

    def __len__(self) -> int:
        return len(self._idle) + len(self._used)

    def lease(self, want: Want, grant: Grant) -> Lease:
        """See `Loans.lease`."""
        return NearLease(want, grant)

    def lend(self, held: Held, leases: Sequence[Any]) -> list[Any]:
        """See `Loans.lend`."""
        self._idle[held.owner] = clock.now(), leases
        return [held.owner, [[-1, lease.name] for lease in leases]]

    def begin(self, owner: str) -> Sequence[NearLease]:
        """Return the leases of the body that begins; none: they were taken back, or lost before it came to that."""
        _, leases = self._idle.pop(owner, (0.0, ()))
        if any(lease.lost for lease in leases):
            self._give_back(leases)
            return ()
        if leases:
            self._used[owner] = leases
        return leases

    def over(self, owner: str) -> None:
        """See `Loans.over`."""
        self.take_back(owner)
        self._give_back(self._used.pop(owner, ()))

    def take_back(self, owner: str) -> None:
        """See `Loans.take_back`."""
        self._give_back(self._idle.pop(owner, (0.0, ()))[1])

    def take_back_idle(self, before: float) -> None:
        """See `Loans.take_back_idle`."""
        for owner, (since, _) in list(self._idle.items()):
            if since < before:
                self.take_back(owner)

    def _give_back(self, leases: Sequence[NearLease]) -> None:
        for lease in leases:
            if not lease.released:
                self._errands.give_back(lease)


class FarLease(Lease):
    """A lease whose deadline stands in the table."""

    __slots__ = ("_table", "index", "lent_at", "serial")

    def __init__(self, table: Table, want: Want, grant: Grant, on_lost: Callable[[Lease], None]) -> None:
        self._table = table
        self.index, self.serial = table.take(grant.deadline)
        self.lent_at = clock.now()
        spec = want.spec
        super().__init__(want.backend, grant, max_hold=spec.max_hold, at_least=spec.at_least, on_lost=on_lost)

    @property
    def user(self) -> int:
        """The process that uses it; 0: none yet."""
        return self._table.user(self.index)

    def renewed(self, grant: Grant) -> None:
        """See `Lease.renewed`."""
        super().renewed(grant)
        self.show()

    def show(self) -> None:
        """Let its user know how long it lasts."""
        self._table.deadlines[self.index] = self.grant.deadline

    def hide(self) -> None:
        """Let nobody begin to use it."""
        self._table.deadlines[self.index] = LOST

    def end(self, reason: str) -> None:
        """See `Lease.end`."""
        if not self.released:
            self.hide()
        super().end(reason)

    def _give_back(self) -> bool:
        try:
            return super()._give_back()
        finally:
            self._table.give_back(self.index)


class FarLoans:
    """For a pool of processes.

    Args:
        table: the memory that is shared with them.
        errands: give back what is left.
        told: called when a body has ended.
    """

    def __init__(self, table: Table, errands: Errands, told: Callable[[], object]) -> None:
        self._table = table
        self._errands = errands
        self._told = told
        self._loans: dict[str, dict[int, FarLease]] = {}

    def __len__(self) -> int:
        return len(self._loans)

    @property
    def full(self) -> bool:
        """See `Loans.full`."""
        return len(self._table) < _ROOM

    def lease(self, want: Want, grant: Grant) -> Lease:
        """See `Loans.lease`."""
        return FarLease(self._table, want, grant, self._lost)

    def lend(self, held: Held, leases: Sequence[Any]) -> list[Any]:
        """See `Loans.lend`."""
        self._loans[held.owner] = {lease.index: lease for lease in leases}
        return [held.owner, [_row(lease) for lease in leases]]

    def over(self, owner: str) -> None:
        """See `Loans.over`."""
        loan = self._loans.pop(owner, {})
        for index in list(loan):
            lease = loan.pop(index, None)
            if lease is not None:
                self._errands.give_back(lease)

    def take_back(self, owner: str) -> None:
        """See `Loans.take_back`.

        A process says that it begins, and then looks whether it still may; here it is the other way round. So one of
        the two sees the other.
        """
        leases = list(self._loans.get(owner, {}).values())
        for lease in leases:
            lease.hide()
        if not any(lease.user for lease in leases):
            self.over(owner)
            return
        for lease in leases:
            if not lease.lost:
                lease.show()

    def take_back_idle(self, before: float) -> None:
        """See `Loans.take_back_idle`."""
        for owner, loan in list(self._loans.items()):
            if any(not lease.user and lease.lent_at < before for lease in list(loan.values())):
                self.take_back(owner)

    def ended(self, index: int, owner: str) -> None:
        """Release a lease whose body has ended (called by the door)."""
        loan = self._loans.get(owner, {})
        lease = loan.pop(index, None)
        if lease is None:
            return
        give_back(lease)
        if not loan:
            self._loans.pop(owner, None)
            self._told()

    def gone(self, pid: int) -> None:
        """Release what a process had that is gone (called by the watch)."""
        for owner, loan in list(self._loans.items()):
            if any(lease.user == pid for lease in list(loan.values())):
                _logger.warning("pool process %d is gone; the leases of its task are given back", pid)
                self.over(owner)
                self._told()

    def _lost(self, lease: Lease) -> None:
        """Let `LeaseLost` rise in the body (called by the renewal)."""
        if isinstance(lease, FarLease) and lease.user:
            with suppress(ProcessLookupError):
                interrupt.interrupt_process(lease.user)


def _row(lease: FarLease) -> list[Any]:
    return [lease.index, lease.name, lease.serial, lease.permits, lease.grant.ttl, lease.fencing_token]
