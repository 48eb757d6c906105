"""`current_lease`: what the running function holds, without being told by its caller."""

from __future__ import annotations

import math

from tasklocks.errors import ConfigurationError
from tasklocks.leases import Lease, held_leases
from tasklocks.started import started_here
from tasklocks.types import Grant

__all__ = ["StartedLease", "current_lease"]


class StartedLease(Lease):
    """What `current_lease` returns under a rate limit alone: a start is used up at once, so nothing is held."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        self.grant = Grant(name, owner="", permits=0, ttl=math.inf, fencing_token=0, deadline=math.inf)
        self._reason = ""
        self._released = False

    @property
    def fencing_token(self) -> int:
        """There is none."""
        raise ConfigurationError(f"rate limit {self.name!r} gives no fencing token, only a lock does: see @locked")

    def __repr__(self) -> str:
        return f"<StartedLease {self.name!r}>"

    def __enter__(self) -> Lease:
        # Not among the leases that are held here: it would hide a lock's, and it has no backend.
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def renew(self) -> None:
        """Do nothing: there is nothing to renew."""

    def release(self) -> bool:
        """Do nothing: there is nothing to give back."""
        return False


def current_lease() -> Lease | None:
    """Return the innermost lease held here: by the running task, or by a `with` block around the caller.

    Under rate limits alone it is a stand-in without permits: it can `pause`, and is never lost. None if there is
    neither. A thread that a task starts has none unless the context is copied into it.
    """
    held = held_leases()
    if held:
        return held[-1]
    started = started_here()
    return StartedLease(started[-1].name) if started else None
