"""Shorter steps for a limit that nobody else uses at the moment, which is what most limits are most of the time.

MongoDB reads a pipeline anew each time, and that of a full step takes it longer than the rest of the work. A quick step
does the same where there is nothing to settle, and nothing at all elsewhere: then the full step is asked for.
"""

from __future__ import annotations

from tasklocks.backends.mongodb._expressions import GONE, NOW, Step, after, if_, key_of
from tasklocks.backends.mongodb._limit import QUIET, granted, hold_counted_in, kept_until, next_token
from tasklocks.types import AcquireRequest

__all__ = ["Quiet", "acquire", "release"]

_REMEMBERED = 10_000


class Quiet:
    """What this process last saw of limits for which nobody waited: how many leases there were, none or one."""

    def __init__(self) -> None:
        self._leases: dict[str, int] = {}

    def is_idle(self, name: str) -> bool:
        """Tell whether nobody had a lease, so that a quick acquire is worth trying."""
        return self._leases.get(name) == 0

    def is_held_alone(self, name: str) -> bool:
        """Tell whether one owner had all, so that a quick release is worth trying."""
        return self._leases.get(name) == 1

    def note(self, name: str, leases: int | None) -> None:
        """Remember how many leases there were; None if somebody waited."""
        if leases not in (0, 1):
            self._leases.pop(name, None)
            return
        if len(self._leases) >= _REMEMBERED:
            self._leases.clear()
        self._leases[name] = leases


def acquire(request: AcquireRequest) -> Step:
    """Take permits of a limit that has no lease and no line."""
    lease = f"leases.{key_of(request.owner)}"
    taken = {
        lease: granted(request),
        "token": next_token(),
        "over_at": after(request.ttl),
        "forget_at": kept_until(after(request.ttl)),
    }
    idle = {"capacity": request.capacity, "leases": {}, "line": {}, "away": {}}
    return Step([{"$set": taken}], {"_id": 0, "lease": f"${lease}", "leases": QUIET}, where=idle)


def release(owner: str) -> Step:
    """End a lease for which nobody waits."""
    lease = f"leases.{key_of(owner)}"
    lasts = {"$gt": [f"${lease}.expires", NOW]}
    ended = {
        "ended": if_(lasts, 1, 0),
        "usual_hold": if_(lasts, hold_counted_in(lease), "$usual_hold"),
        lease: GONE,
    }
    nobody_listens = {"line": {}, f"{lease}.owner": {"$exists": True}, f"{lease}.closed": None}
    return Step([{"$set": ended}], {"_id": 0, "ended": 1, "leases": QUIET}, where=nobody_listens)
