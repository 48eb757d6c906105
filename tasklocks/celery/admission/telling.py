"""What the messages that a worker holds are news of."""

from __future__ import annotations

from collections.abc import Sequence

from tasklocks.celery.admission.held import Held
from tasklocks.leases import Lease
from tasklocks.news import tell, watched
from tasklocks.types import Busy

__all__ = ["tell_admitted", "tell_unreachable", "tell_waiting"]


def tell_waiting(held: Held, busy: Busy | None = None) -> None:
    """Tell once that the message waits: behind others of this worker, or as the backend says."""
    if held.told or not watched[0]:
        return
    held.told = True
    _, name = held.key
    tell("waiting", held, name, held.owner, waited=held.waited_for(), place=None if busy is None else busy.ahead)


def tell_admitted(held: Held, leases: Sequence[Lease]) -> None:
    """Tell that the message has its leases."""
    for lease in leases:
        lease.source = held
        if watched[0]:
            tell("acquired", held, lease.name, lease.owner, waited=held.waited_for(), token=lease.fencing_token)


def tell_unreachable(held: Held, error: Exception) -> None:
    """Tell that the message waits because the backend does not answer."""
    _, name = held.key
    tell("unreachable", held, name, held.owner, waited=held.waited_for(), reason=str(error))
