"""Limits as people see them: frozen facts, with who it is and times from now. Times are seconds."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HolderView", "Kind", "LimitView", "RateView", "Row", "WaiterView", "Who"]

Kind = str
"""`mutex`, `semaphore` or `rate`."""


@dataclass(frozen=True, slots=True)
class Who:
    """An owner, as far as it has told; what it has not told is empty."""

    task: str
    id: str
    worker: str
    pid: str

    def __str__(self) -> str:
        task = f"{self.task}[{self.id}]" if self.task else self.id
        place = f"{self.worker} pid {self.pid}" if self.worker else ""
        return " on ".join(part for part in (task, place) if part) or "somebody"


@dataclass(frozen=True, slots=True)
class HolderView:
    """One live lease.

    Attributes:
        who: whose it is.
        owner: what the backend knows it by.
        permits: how many it covers.
        since: backend's clock; when it was granted, in seconds since the epoch.
        held_for: seconds since then.
        lease_left: seconds until it ends if nobody renews it.
        fencing_token: its token.
    """

    who: Who
    owner: str
    permits: int
    since: float
    held_for: float
    lease_left: float
    fencing_token: int


@dataclass(frozen=True, slots=True)
class WaiterView:
    """One place in line.

    Attributes:
        place: 1 is next.
        who: who waits.
        ticket: what the backend knows it by.
        permits: how many it needs.
        since: backend's clock; when it first asked, in seconds since the epoch.
        waited_for: seconds since then.
        listening: whether it is told as soon as permits are free; otherwise it comes back by itself.
        expected_in: seconds until its turn comes, if permits are held for as long as usual; None: not known yet.
    """

    place: int
    who: Who
    ticket: str
    permits: int
    since: float
    waited_for: float
    listening: bool
    expected_in: float | None


@dataclass(frozen=True, slots=True)
class LimitView:
    """One lock or semaphore.

    Attributes:
        name: the limit.
        kind: `mutex` or `semaphore`.
        capacity: how many permits it has in all.
        held: how many of them are held.
        usual_hold: seconds that a permit is usually held; None: not known yet.
        holders: live leases, oldest first.
        waiters: places in line, first to be served first.
    """

    name: str
    kind: Kind
    capacity: int
    held: int
    usual_hold: float | None
    holders: tuple[HolderView, ...]
    waiters: tuple[WaiterView, ...]


@dataclass(frozen=True, slots=True)
class RateView:
    """One rate limit.

    Attributes:
        name: the limit.
        kind: `rate`.
        paused_for: seconds for which nothing starts yet; 0.0: it is not paused.
        algorithm: how it counts; empty: nothing was counted yet.
        booked_for: seconds up to which starts are reserved; 0.0: all reserved starts were.
        used: what the window of now has counted, with what is reserved in it; None: it counts no windows, or several.
    """

    name: str
    kind: Kind
    paused_for: float
    algorithm: str = ""
    booked_for: float = 0.0
    used: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a list of limits.

    Attributes:
        name: the limit.
        kind: `mutex`, `semaphore` or `rate`.
        capacity: how many permits there are; 0 for a rate.
        held: how many of them are held.
        holders: how many hold.
        waiters: how many wait.
        longest_hold: seconds since the oldest lease was granted; 0.0: none is held.
        usual_hold: seconds that a permit is usually held; None: not known yet.
        paused_for: seconds for which a rate limit starts nothing yet.
    """

    name: str
    kind: Kind
    capacity: int = 0
    held: int = 0
    holders: int = 0
    waiters: int = 0
    longest_hold: float = 0.0
    usual_hold: float | None = None
    paused_for: float = 0.0
