"""What this process knows: its leases, its places in line, what it read of others, and who waits for which node."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tasklocks import clock
from tasklocks.backends.zookeeper.nodes import Header, Row, digest
from tasklocks.types import AcquireRequest

__all__ = ["Held", "Known", "Seat", "Watches", "content_of"]

_MOST = 4_000  # what is remembered of each kind; all of it can be read again


@dataclass(slots=True)
class Held:
    """A lease that was taken or renewed here; `deadline` and `since` are on the local clock.

    waiter: the waiter's node that it still is.
    """

    path: str
    permits: int
    token: int
    content: bytes
    deadline: float
    since: float
    waiter: Row | None = None


@dataclass(slots=True, eq=False)
class Seat:
    """A place in line that was taken here; times are on the local clock.

    since: before this it was not there.
    until: the place is given up unless it is asked for again.
    row: its node, if it was read.
    look_at: the first lease in front may have ended without anyone telling.
    front: what the head of the line waits for: paths of leases and their permits; empty if it is not the head.
    header: of the limit, when `front` was all that was in front.
    heard: what happened since: paths of nodes that ended, and `content_of` the limit.
    """

    limit: str
    request: AcquireRequest
    path: str
    since: float
    until: float
    row: Row | None = None
    look_at: float = math.inf
    front: dict[str, int] = field(default_factory=dict)
    header: Header | None = None
    heard: set[str] = field(default_factory=set)
    wake: threading.Event = field(default_factory=threading.Event)


def content_of(path: str) -> str:
    """Return what `Watches` calls a node's content, beside its children and its end."""
    return f"{path} content"


class Watches:
    """Who is to be woken when something happens to a node."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seats: dict[str, set[Seat]] = {}

    def add(self, paths: Iterable[str], seat: Seat) -> list[str]:
        """Let `seat` wait for the nodes too; return those that the server was not asked to watch yet."""
        with self._lock:
            fresh = [path for path in paths if path not in self._seats]
            for path in paths:
                self._seats.setdefault(path, set()).add(seat)
        return fresh

    def heard(self, path: str | None) -> None:
        """Wake who waits for the node, once; for None wake all, for then all watches are gone."""
        with self._lock:
            told = list(self._seats) if path is None else [path, content_of(path)]
            woken = {each: self._seats.pop(each, set()) for each in told}
        for each, seats in woken.items():
            for seat in seats:
                # Whoever lost all watches has heard of nothing; it has to look.
                seat.heard.add("" if path is None else each)
                seat.wake.set()

    def forget(self, paths: Iterable[str]) -> None:
        """Watch the nodes no more: it is not known whether the server does. Who waits looks again."""
        with self._lock:
            woken = [seat for path in paths for seat in self._seats.pop(path, ())]
        for seat in woken:
            seat.heard.add("")
            seat.wake.set()

    def leave(self, seat: Seat) -> None:
        """Wake `seat` no more."""
        with self._lock:
            for seats in self._seats.values():
                seats.discard(seat)


class Known:
    """The memory of one process, by (path of the limit, owner) or by path."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], Held] = {}
        self._most_held = _MOST
        self.seats: dict[tuple[str, str], Seat] = {}
        self.by_owner: dict[str, Seat] = {}
        self.busy: dict[str, float] = {}
        """Limits that were busy a moment ago, and the local time until which they are taken for busy."""
        self.headers: dict[str, Header] = {}
        self.rows: dict[str, Row] = {}
        self.watches = Watches()
        self.asking: list[tuple[str, str]] = []
        """Limit and owner's digest of each acquire that is under way."""
        self.strays: list[tuple[Any, str]] = []
        """Limit and owner's digest of leases that may be there although their takers were told nothing."""

    def sit(self, seat: Seat) -> None:
        """Remember a place."""
        self.seats[seat.limit, seat.request.owner] = self.by_owner[seat.request.owner] = seat

    def forget(self, seat: Seat) -> None:
        """Forget a place that is given up or lost."""
        self.seats.pop((seat.limit, seat.request.owner), None)
        self.by_owner.pop(seat.request.owner, None)
        self.watches.leave(seat)

    def is_here(self, limit: str, who: str) -> bool:
        """Tell whether an owner (its digest) asks for a limit now, waits for it or holds it."""
        here = [*list(self.held), *list(self.seats)]
        return (limit, who) in list(self.asking) or any(path == limit and digest(each) == who for path, each in here)

    def lapsed(self, limit: str) -> list[Seat]:
        """Return the places at a limit that were not asked for again in time."""
        now = clock.now()
        return [seat for seat in list(self.seats.values()) if seat.until <= now and seat.limit == limit]

    def tidy(self) -> None:
        """Forget what may be forgotten, so that a process that runs for months does not grow."""
        _drop_oldest(self.headers)
        _drop_oldest(self.busy)
        _drop_oldest(self.rows)
        # What is forgotten here ends by its ttl.
        del self.strays[:-_MOST]
        if len(self.held) > self._most_held:
            self._drop_ended()

    def _drop_ended(self) -> None:
        now = clock.now()
        for key, held in list(self.held.items()):
            if held.deadline <= now:
                self.held.pop(key, None)
        # Leases that go on are kept however many they are, and not looked through at each step.
        self._most_held = max(_MOST, 2 * len(self.held))


def _drop_oldest(memory: dict[str, Any]) -> None:
    # Half of it at once: a look at each step must cost next to nothing. Other threads write meanwhile.
    if len(memory) > _MOST:
        for key in list(memory)[: _MOST // 2]:
            memory.pop(key, None)
