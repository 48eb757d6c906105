"""`Held`: one message that waits in the worker's main process, and what it waits for."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tasklocks import clock, who
from tasklocks.backends import Backend
from tasklocks.celery.arrived import as_in_pool
from tasklocks.celery.conf import Settings
from tasklocks.celery.marks import Limit, limits_of
from tasklocks.celery.spec import LockSpec
from tasklocks.celery.subject import about_message
from tasklocks.celery.waited import HEADER, Waited, read, written
from tasklocks.celery.work import Work
from tasklocks.news import About
from tasklocks.types import AcquireRequest, Busy, Place

__all__ = ["Held", "Key", "Want", "held", "locks_to_hold", "note_clock"]

_AWAY = 30.0  # seconds that the place of one is kept which looks by itself; longer than between two looks

_KEPT = 60.0  # seconds that the best guess at a backend's clock is kept; clocks are set

_numbers = itertools.count()

Key = tuple[Backend, str]
"""A limit: where it lives, and its name."""


class _Offsets:
    """What to add to the local clock for that of a backend, as far as its busy answers tell.

    The smallest one is the best: it was under way for the shortest time.
    """

    def __init__(self) -> None:
        self._known: dict[Backend, tuple[float, float]] = {}

    def heard(self, backend: Backend, busy: Busy) -> None:
        """Learn from an answer."""
        offset, until = busy.server_time - busy.asked_at, busy.asked_at + _KEPT
        known = self._known.get(backend)
        if known is None or offset <= known[0] or busy.asked_at > known[1]:
            self._known[backend] = offset, until

    def at(self, backend: Backend, local: float) -> float | None:
        """Return the backend's clock at a local time; None: nothing is known of it."""
        known = self._known.get(backend)
        return None if known is None else local + known[0]


_offsets = _Offsets()


def note_clock(backend: Backend, busy: Busy | None) -> None:
    """Learn a backend's clock from what it answered (may be called on any thread)."""
    if busy is not None:
        _offsets.heard(backend, busy)


@dataclass(frozen=True, slots=True)
class Want:
    """One lock of a call.

    Attributes:
        spec: what the decorator says.
        backend: where the limit lives.
        name: the limit.
        ttl: seconds that a lease lasts without renewal.
    """

    spec: LockSpec
    backend: Backend
    name: str
    ttl: float

    @property
    def key(self) -> Key:
        """The limit."""
        return self.backend, self.name


@dataclass(eq=False, slots=True)
class Held:
    """A message that waits. Only the event loop changes it.

    Attributes:
        request: Celery's.
        wants: its locks, outermost first.
        owner: who will hold the leases; nobody else's, not even another delivery's of the same task. Another one once
            it has left a line.
        info: what others see of the owner.
        waited: what its header said when it came.
        number: grows with each message that arrives.
        arrived: local clock.
        first: which of its locks it waits for in line.
        standing: a thread asks for it.
        leaving: it is being sent back to the broker.
        answered: since it stands it has heard something.
        looks_at: local clock; it does not ask again before.
        since: backend's clock; since when it waits. None: not known yet.
        busy: what the backend said last.
        until: local clock; when its patience (`max_wait`), or the broker's, is over.
        prefetched: the prefetch count was raised for it.
        told: that it waits is known to whoever watches.
    """

    request: Any
    wants: Sequence[Want]
    owner: str
    info: str
    waited: Waited
    number: int = field(default_factory=lambda: next(_numbers))
    arrived: float = field(default_factory=clock.now)
    first: int = 0
    standing: bool = False
    leaving: bool = False
    answered: bool = False
    looks_at: float = -math.inf
    since: float | None = None
    busy: Busy | None = None
    until: float = math.inf
    prefetched: bool = False
    told: bool = False

    @property
    def key(self) -> Key:
        """The limit that it waits for in line."""
        return self.wants[self.first].key

    def drop_attempt(self) -> None:
        """Let nothing count that is still found out in its name so far."""
        self.owner = _new_owner(self.request)

    def asks_for(self, want: Want, owner: str, *, counted: bool = False) -> AcquireRequest:
        """Return what to ask the backend; the user's function is asked for the capacity, so not in the event loop.

        Args:
            want: which of its locks.
            owner: in whose name.
            counted: whether it keeps a place while it does not listen.
        """
        place = Place(f"held:{owner}", _AWAY) if counted else None
        return AcquireRequest(
            want.name,
            owner,
            want.spec.permits,
            want.spec.capacity_now(want.backend, want.name),
            want.ttl,
            place,
            self.info,
            self.waits_since(want.backend),
        )

    def waits_since(self, backend: Backend) -> float | None:
        """Return since when it waits, on a backend's clock; None: nothing is known of that clock."""
        # What its header says counts from the first question on: a place keeps the time with which it was taken.
        said = self.waited.since if self.since is None else self.since
        return _offsets.at(backend, self.arrived) if said is None else said

    def heard(self, busy: Busy | None) -> None:
        """Note what the backend says: since when it waits, and until when it may."""
        self.busy = busy
        self.answered = True
        if busy is None:
            return
        backend = self.wants[self.first].backend
        _offsets.heard(backend, busy)
        if self.since is None:
            since = self.waits_since(backend)
            self.since = busy.server_time if since is None else since
        bound = self.wants[self.first].spec.max_wait
        if bound is not None:
            self.until = min(self.until, busy.asked_at + bound - (busy.server_time - self.since))

    def about(self, limit: str, owner: str) -> About:
        """Return what its news is about (called by `tasklocks.news`)."""
        want = next(each for each in self.wants if each.name == limit)
        return about_message(self.request, want.spec, limit, want.backend, owner)

    def waited_for(self) -> float:
        """Return for how many seconds it has waited, in all its deliveries."""
        since = self.since if self.since is not None else self.waited.since
        now = _offsets.at(self.key[0], clock.now())
        if since is None or now is None:
            return clock.now() - self.arrived
        return now - since

    def said_later(self) -> dict[str, Any]:
        """Return what its header says if it is sent again."""
        since = self.since if self.since is not None else self.waited.since
        if since is None:
            since = _offsets.at(self.key[0], self.arrived)
        return written(dataclasses.replace(self.waited, times=self.waited.times + 1, since=since))

    def tell_the_body(self) -> None:
        """Let the task's body know since when it waits: it is given to the pool without a lease."""
        if self.since is not None and self.waited.since is None:
            self.request.request_dict[HEADER] = written(dataclasses.replace(self.waited, since=self.since))


def locks_to_hold(task: Any) -> Sequence[LockSpec]:
    """Return the locks of a task whose messages are held; none: it takes them in its body, or it has none."""
    limits = limits_of(task)
    return [each for each in limits if isinstance(each, LockSpec)] if all(map(_can_be_held, limits)) else []


def _can_be_held(limit: Limit) -> bool:
    # A rate is reserved after the locks, by the body. Only the process itself can end itself at the right moment.
    return isinstance(limit, LockSpec) and limit.on_busy == "retry" and limit.on_lost != "terminate"


def held(request: Any, locks: Sequence[LockSpec], longest: float) -> Held | None:
    """Return the message as one to be held; None if its body has to see to its locks.

    Args:
        request: Celery's.
        locks: what `locks_to_hold` returned.
        longest: seconds that the broker lets a message be held.

    Raises:
        Exception: the names cannot be made of this call; the body fails by it, too.
    """
    wants = as_in_pool(request, lambda settings, work: [_want(spec, settings, work) for spec in locks])
    if len({want.key for want in wants}) < len(wants):
        return None  # two leases of one limit may never be free at once; the body finds out
    info = who.written(task=request.task.name, id=request.id, host=request.hostname, pid=str(os.getpid()))
    made = Held(request, wants, _new_owner(request), info, read(request.request_dict))
    made.until = clock.now() + longest
    return made


def _want(spec: LockSpec, settings: Settings, work: Work) -> Want:
    backend = settings.backend(spec.backend, spec.where)
    ttl = settings.ttl if spec.ttl is None else spec.ttl
    return Want(spec, backend, spec.key(work.key_args, work.kwargs), ttl)


def _new_owner(request: Any) -> str:
    return f"{request.id}:{secrets.token_hex(6)}"
