"""One limit in the memory of a process: the plain statement of what settling it means."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tasklocks.backends.base import GRANT_TTL
from tasklocks.types import AcquireRequest

__all__ = ["Lease", "Limit", "Waiting"]


@dataclass(slots=True)
class Lease:
    """What an owner has; `expires` is on the local clock."""

    permits: int
    token: int
    since: float
    expires: float
    info: str
    closed: bool = False


@dataclass(slots=True)
class Waiting:
    """A place in line, kept until a moment of the local clock."""

    request: AcquireRequest
    since: float
    until: float


@dataclass(slots=True)
class Limit:
    """A limit: its leases by owner, and its two lines by owner and by ticket."""

    capacity: int = 0
    token: int = 0
    usual_hold: float | None = None
    used_at: float = 0.0
    leases: dict[str, Lease] = field(default_factory=dict)
    queue: dict[str, Waiting] = field(default_factory=dict)
    away: dict[str, Waiting] = field(default_factory=dict)

    def free(self) -> int:
        """Return how many permits nobody has."""
        return self.capacity - sum(lease.permits for lease in self.leases.values())

    def is_behind(self, request: AcquireRequest) -> bool:
        """Return whether anybody listens in front of one who asks; whose place is kept in line is served from there."""
        if not self.queue or request.since is None or request.owner in self.queue:
            return bool(self.queue)
        return next(iter(self.queue.values())).since <= request.since

    def grant(self, request: AcquireRequest, now: float, ttl: float) -> Lease:
        """Make a lease."""
        self.token = max(self.token + 1, time.time_ns() // 1000)
        lease = Lease(request.permits, self.token, time.time(), now + ttl, request.info)
        self.leases[request.owner] = lease
        if request.place is not None:
            self.away.pop(request.place.ticket, None)
        return lease

    def take_place(self, request: AcquireRequest, now: float) -> int:
        """Enter or refresh the place that the request asks for; return how many are in front."""
        place = request.place
        if place is None:
            return len(self.queue) + len(self.away)
        line = self.away if place.address is None else self.queue
        since = time.time() if request.since is None else min(request.since, time.time())
        seat = line.setdefault(place.ticket, Waiting(request, since, 0.0))
        seat.request, seat.until = request, now + place.keep
        if request.since is not None:
            _sort(line)
        in_front = list(line).index(place.ticket)
        return in_front if line is self.queue else len(self.queue) + in_front

    def settle(self, now: float) -> list[str]:
        """Drop what is over, grant to the head of the line; return who was granted."""
        self.leases = {owner: lease for owner, lease in self.leases.items() if lease.expires > now}
        self.queue = {owner: each for owner, each in self.queue.items() if each.until > now}
        self.away = {ticket: each for ticket, each in self.away.items() if each.until > now}
        granted = []
        while self.queue:
            owner, head = next(iter(self.queue.items()))
            if head.request.permits > self.free():
                break
            del self.queue[owner]
            self.grant(head.request, now, min(head.request.ttl, GRANT_TTL))
            granted.append(owner)
        return granted

    def idle_since(self, now: float) -> float:
        """Return for how many seconds nobody has used it."""
        # Not whether there are any: nobody drops what ends on a limit that is not asked for again.
        ends = [each.expires for each in self.leases.values()]
        ends += [each.until for line in (self.queue, self.away) for each in line.values()]
        return now - max([self.used_at, *ends])


def _sort(line: dict[str, Waiting]) -> None:
    """Put those in front who have waited for longer."""
    seats = sorted(line.items(), key=lambda each: each[1].since)
    line.clear()
    line.update(seats)
