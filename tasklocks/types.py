"""The facts that travel between callers, policy and backends: frozen values, no behaviour.

All times are seconds. Times named `deadline` or `asked_at` are on the local clock (`tasklocks.clock`); times
named `since` or `server_time` are on the backend's clock, as seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import tzinfo
from typing import Literal

__all__ = [
    "AcquireRequest",
    "Algorithm",
    "Busy",
    "Capabilities",
    "Grant",
    "Holder",
    "LimitState",
    "Pace",
    "Page",
    "Place",
    "Refused",
    "ReserveRequest",
    "Slot",
    "Taken",
    "Waiter",
]

Algorithm = Literal["gcra", "sliding", "fixed"]
"""How a rate counts: even pacing with a burst; never more in any window; a quota of each calendar window."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend promises. Declared, never probed; the documentation prints this table.

    Attributes:
        push: a release wakes the next waiter; without it waiters look again at short intervals.
        server_clock: expiry is judged by the server's clock, so a wrong clock on a worker breaks nothing.
        strict_order: permits go to listening waiters strictly first come, first served.
        multi_host: processes on several hosts can share limits.
        min_ttl: the shortest ttl that the backend can keep, in seconds.
        together: a lock and rates are taken in one atomic step; without it one after the other, with what was taken
            given back if a later one refuses.
        by_since: places in line go by `AcquireRequest.since`; without it by the order in which they were first asked
            for.
    """

    push: bool
    server_clock: bool
    strict_order: bool
    multi_host: bool
    min_ttl: float = 0.1
    by_since: bool = True
    together: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A place in line, asked for together with a permit.

    Attributes:
        ticket: who waits. A listening waiter's ticket is its owner; a task that is sent again keeps one ticket
            over all its deliveries.
        keep: seconds that the place is kept unless it is asked for again.
        address: where a release can reach the waiter (as given by the backend's `listen`). None if the waiter is
            away and comes back by itself: it is counted, but no permit is held for it.
    """

    ticket: str
    keep: float
    address: str | None = None


@dataclass(frozen=True, slots=True)
class AcquireRequest:
    """One caller's wish for permits of one limit.

    Attributes:
        name: the limit.
        owner: who asks; unique for each delivery of a task. Asking again under the same owner is harmless: a lease
            that it already has is extended and returned.
        permits: how many permits it needs, all at once.
        capacity: how many permits the limit has in all, as this caller knows it; the newest statement counts.
        ttl: seconds that the lease lasts without renewal.
        place: how it waits if nothing is free; None means not at all.
        info: what `inspect` shows about the owner (see `tasklocks.who`), opaque to backends; never task arguments.
        since: backend's clock; it has waited elsewhere since then, and stands in line as if it had come here then.
            None, or a time to come: from now. Honoured by backends that declare `by_since`.
    """

    name: str
    owner: str
    permits: int = 1
    capacity: int = 1
    ttl: float = 30.0
    place: Place | None = None
    info: str = ""
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease as data: all that is needed to renew it, release it or hand it to another process of this host.

    Attributes:
        name: the limit.
        owner: whose lease it is.
        permits: how many permits it covers.
        ttl: seconds that a renewal adds.
        fencing_token: strictly larger than every earlier token of the same limit.
        deadline: local clock; from then on the lease may have ended. Measured from before the request was sent.
        capacity_was: the capacity that this acquire replaced by its own, if it differed.
    """

    name: str
    owner: str
    permits: int
    ttl: float
    fencing_token: int
    deadline: float
    capacity_was: int | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """One live lease, as others see it.

    Attributes:
        owner: who holds it.
        permits: how many permits it covers.
        fencing_token: its token.
        since: backend's clock; when it was granted.
        expires_in: seconds until it ends if nobody renews it.
        info: what the owner said about itself.
    """

    owner: str
    permits: int
    fencing_token: int
    since: float
    expires_in: float
    info: str


@dataclass(frozen=True, slots=True)
class Waiter:
    """One place in line.

    Attributes:
        ticket: who waits.
        permits: how many permits it needs.
        since: backend's clock; when it first asked.
        listening: it is told as soon as permits are free; otherwise it comes back by itself.
        info: what the waiter said about itself.
    """

    ticket: str
    permits: int
    since: float
    listening: bool
    info: str


@dataclass(frozen=True, slots=True)
class Busy:
    """No permit was free.

    Attributes:
        retry_after: seconds until the first of the leases ends if nobody renews it; None if unknown.
        ahead: waiters in front of this one; 0 means next in line.
        holders: who holds permits, oldest first; at most ten of them.
        capacity: how many permits the limit has in all.
        usual_hold: seconds that a permit of this limit is usually held; None if not known yet.
        server_time: the backend's clock when it answered.
        asked_at: the local clock before the request was sent.
        capacity_was: the capacity that this acquire replaced by its own, if it differed.
    """

    retry_after: float | None
    ahead: int
    holders: tuple[Holder, ...]
    capacity: int
    usual_hold: float | None
    server_time: float
    asked_at: float
    capacity_was: int | None = None


@dataclass(frozen=True, slots=True)
class LimitState:
    """All that a backend knows about one limit.

    Attributes:
        name: the limit.
        capacity: how many permits it has in all; 0 if it was never used or is forgotten.
        holders: live leases, oldest first.
        waiters: places in line, first to be served first.
        usual_hold: seconds that a permit is usually held; None if not known yet.
    """

    name: str
    capacity: int
    holders: tuple[Holder, ...]
    waiters: tuple[Waiter, ...]
    usual_hold: float | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some of what a backend keeps.

    Attributes:
        limits: limits, also those that nobody uses now but that are not forgotten yet.
        texts: small texts, such as the states of rate limits: name and content.
        after: where to go on; empty: that was all.
    """

    limits: tuple[LimitState, ...]
    texts: tuple[tuple[str, str], ...]
    after: str


@dataclass(frozen=True, slots=True)
class Pace:
    """One rate.

    Attributes:
        limit: how much may start in each period: a sum of costs.
        period: seconds.
        burst: how much may start at once after a pause (`gcra` only); None: each start waits for its own share.
        algorithm: how it counts.
        zone: the time zone of a calendar quota (`fixed` only); None: UTC.
    """

    limit: float
    period: float
    burst: float | None = None
    algorithm: Algorithm = "gcra"
    zone: tzinfo | None = None


@dataclass(frozen=True, slots=True)
class ReserveRequest:
    """One caller's wish to start something as soon as its rate allows.

    Attributes:
        name: the rate limit.
        paces: the rates; all must hold.
        cost: how much of each the start takes.
        max_wait: seconds; a start that would be later is refused. None: without bound.
    """

    name: str
    paces: tuple[Pace, ...]
    cost: float = 1.0
    max_wait: float | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """A reserved start.

    Attributes:
        start: backend's clock, in seconds since the epoch.
        made: backend's clock; when it was reserved.
        wait: seconds from then until the start.
    """

    start: float
    made: float
    wait: float


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was reserved, for it would start too late.

    Attributes:
        wait: seconds until the earliest start there was.
        name: the limit that refused, where several were asked together.
    """

    wait: float
    name: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken of a lock and of rates together.

    Attributes:
        grant: the lease; None: the start is too far away for it, so the permits stay free until then.
        slots: the reserved starts, in the order in which they were asked for.
    """

    grant: Grant | None
    slots: tuple[Slot, ...]
