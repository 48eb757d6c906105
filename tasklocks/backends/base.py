"""What a backend is: a handful of atomic steps on limits, and no policy.

A backend keeps, for each limit, its leases (rows, never a number), its waiters in order, and a fencing counter. Every
step first settles the limit: leases and places whose time is over are dropped, and free permits are granted to the
listening waiters at the head, in order, until the head does not fit. So nobody has to sweep: the next step of anyone
does it, and a step that frees a permit hands it on by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from tasklocks.backends.several import Slots, reserve_in_turn, take_in_turn
from tasklocks.rates import RateState
from tasklocks.types import (
    AcquireRequest,
    Busy,
    Capabilities,
    Grant,
    LimitState,
    Page,
    Refused,
    ReserveRequest,
    Slot,
    Taken,
)

__all__ = [
    "GRANT_TTL",
    "HOLDERS_SHOWN",
    "HOLD_WEIGHT",
    "RETENTION",
    "SHORTER_HOLD_WEIGHT",
    "WAITER_TTL",
    "Backend",
    "Change",
    "Changes",
    "Listener",
    "ReservesByUpdate",
    "moving_average",
]

GRANT_TTL = 3.0
"""Seconds that a waiter has to renew a lease that a release granted to it; a dead waiter's grant lapses then."""

WAITER_TTL = 9.0
"""Seconds that a listening waiter's place is kept unless it asks again."""

HOLDERS_SHOWN = 10
"""How many holders a busy answer names."""

RETENTION = 3600.0
"""Seconds after its last use for which an idle limit is remembered (capacity, usual hold, fencing counter)."""

HOLD_WEIGHT = 0.2
"""The weight of the newest hold in the moving average of hold times."""

SHORTER_HOLD_WEIGHT = 0.5
"""The same for a hold that is shorter: too long an estimate leaves permits idle, too short a one costs a look."""


T = TypeVar("T")
Change = Callable[[str, float], tuple[str, float, T]]
"""From a text and the backend's clock to the new text, the seconds to keep it, and an answer."""

Changes = Callable[[Sequence[str], float], tuple[Sequence[str], float, T]]
"""The same for several texts, which change together."""


class Listener(Protocol):
    """One waiter's ear: made before it takes its place in line, closed when it stops waiting."""

    address: str
    """What the waiter's place says, so that a release can reach it; may be empty."""

    def wait(self, timeout: float, since: Busy) -> Grant | None:
        """Sleep until something is heard, or for `timeout` seconds.

        Args:
            timeout: seconds.
            since: the last busy answer; it ties the backend's clock to the local one, so that a pushed lease's
                end is known without asking again.

        Returns:
            The lease that was pushed, or None: then ask the backend.
        """

    def close(self) -> None:
        """Stop listening."""


class Backend(Protocol):
    """The steps that a coordination store offers, each atomic and, where the store can, one round trip.

    Every method raises `BackendUnavailable` if the store does not answer; nothing is known then. A backend may be
    shared by threads and is usable after a fork: its connections belong to one process.
    """

    capabilities: Capabilities

    def acquire(self, request: AcquireRequest) -> Grant | Busy:
        """Take permits if they are free and nobody listens in front; else take the place that the request asks for.

        An owner that already has a lease of this limit gets the same lease again, extended to its ttl.
        """

    def renew(self, grants: Sequence[Grant]) -> Sequence[Grant | None]:
        """Extend each lease to its ttl from now; None stands for a lease that is not there any more."""

    def release(self, name: str, owner: str, keep: float = 0.0) -> bool:
        """End what `owner` has of the limit: its lease, or its place in line.

        Args:
            name: the limit.
            owner: whose lease or place it is; nothing of anyone else's is touched.
            keep: seconds from now for which the permits stay taken all the same.

        Returns:
            Whether a live lease was ended.
        """

    def force_release(self, name: str, owner: str | None = None) -> int:
        """End the lease of `owner`, or every lease of the limit, without asking; return how many were ended."""

    def inspect(self, name: str) -> LimitState:
        """Return all that is known about the limit; changes nothing that others can see."""

    def page(self, after: str = "", most: int = 200) -> Page:
        """Return some of what is kept under this prefix, for people who look; changes nothing that others can see.

        Going on from page to page shows all that is there from the first to the last one; what comes or goes
        meanwhile may be missing, or be there twice. No page keeps the store from its other work for long, and
        whoever takes leases pays nothing for it: there is no list to be kept.

        Args:
            after: where the page before ended; empty: from the start.
            most: about how many to look at; a page may have fewer, even none, and not be the last.
        """

    def update(self, name: str, change: Change[T]) -> T:
        """Replace the text that is kept under `name` by what `change` makes of it, and return its answer.

        One atomic step, as others see it. Texts are small, and apart from the limits of the same names.

        Args:
            name: which text; one that was never written, or was forgotten, is empty.
            change: gets the text and the backend's clock (seconds since the epoch); returns the new text, for how many
                seconds to keep it, and the answer. It may be called several times, so it changes nothing else. A text
                that stays as it was is not written.
        """

    def reserve(self, request: ReserveRequest) -> Slot | Refused:
        """Reserve the earliest start that the request's rates allow, or nothing if that is too late."""

    def reserve_all(self, requests: Sequence[ReserveRequest]) -> Slots | Refused:
        """Reserve a start at each of several limits, or at none: one atomic step where the store can.

        Args:
            requests: of different limits, sorted by their names: in one order for all, wherever that matters.

        Returns:
            The starts, in the order of the requests; or the first refusal, with the limit's name.
        """

    def take_all(
        self, request: AcquireRequest, rates: Sequence[ReserveRequest], within: float
    ) -> Taken | Busy | Refused:
        """Take permits and reserve a start at each of several limits, or nothing: one atomic step where the store can.

        If no permits are free, the answer and the place in line are those of `acquire`, and nothing is reserved. If
        they are, the starts are reserved as by `reserve_all`; and if the latest of them comes soon, there is a lease.

        Args:
            request: the lock.
            rates: one at least, of different limits, sorted by their names.
            within: seconds; a start that is later gets no lease, for permits must not lie idle until then. A lease
                that the owner has already is extended all the same.

        Returns:
            What was taken; or the lock's busy answer; or the first refusal, with the limit's name. Whoever gets
            starts, or a refusal, has no place in line any more.
        """

    def listen(self, owner: str) -> Listener:
        """Return an ear for `owner`."""

    @property
    def listening(self) -> bool:
        """Whether an ear costs nothing now, because this process listens anyway."""

    def version(self) -> str:
        """Return the version of the store, for people; empty if it does not tell."""

    def close(self) -> None:
        """Close this process's connections; the backend can be used again afterwards."""


class ReservesByUpdate:
    """Makes `reserve` of `update`, and takes one thing after the other, for backends that have nothing quicker.

    Tells no version.
    """

    def version(self) -> str:
        """See `Backend.version`."""
        return ""

    def reserve(self: Backend, request: ReserveRequest) -> Slot | Refused:
        """See `Backend.reserve`."""

        def change(text: str, now: float) -> tuple[str, float, Slot | Refused]:
            state = RateState.read(text)
            answer = state.reserve(request.paces, request.cost, now, request.max_wait)
            if isinstance(answer, Refused):
                return text, 0.0, answer
            return state.written(), state.lasts(now) + RETENTION, answer

        return self.update(request.name, change)

    def reserve_all(self: Backend, requests: Sequence[ReserveRequest]) -> Slots | Refused:
        """See `Backend.reserve_all`."""
        return reserve_in_turn(self, requests, RETENTION)

    def take_all(
        self: Backend, request: AcquireRequest, rates: Sequence[ReserveRequest], within: float
    ) -> Taken | Busy | Refused:
        """See `Backend.take_all`."""
        return take_in_turn(self, request, rates, within)


def moving_average(average: float | None, hold: float) -> float:
    """Return the moving average of hold times with one more `hold` counted in, in seconds."""
    if average is None:
        return hold
    return average + (HOLD_WEIGHT if hold > average else SHORTER_HOLD_WEIGHT) * (hold - average)
