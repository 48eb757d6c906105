"""The starts of one call: what it wishes for, what it has reserved so far, and when it may start at each limit."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from tasklocks import clock
from tasklocks.backends import Backend
from tasklocks.celery.calls import Call
from tasklocks.celery.waited import Booked
from tasklocks.celery.wish import Wish, told_apart
from tasklocks.errors import BackendUnavailable, LockBusy, LockTimeout, TaskLocksError
from tasklocks.types import Refused, Slot

__all__ = ["RefusedError", "Starts", "refused"]

_logger = logging.getLogger("tasklocks")


class RefusedError(TaskLocksError):
    """A limit has no start within the bound of the call."""

    def __init__(self, wish: Wish, busy: LockBusy) -> None:
        super().__init__(str(busy))
        self.wish, self.busy = wish, busy


@dataclass(slots=True)
class Starts:
    """What one call wishes for, and has so far.

    Attributes:
        call: the call.
        wishes: its rates.
        booked: the starts that it has reserved, by the wishes' keys.
        due: when it may start, by the wishes' keys; local clock.
    """

    call: Call
    wishes: Sequence[Wish]
    booked: dict[str, Booked]
    due: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, call: Call, wishes: Sequence[Wish]) -> Starts:
        """Return what a call has when it comes: what its message carries."""
        return cls(call, told_apart(wishes), {each.name: each for each in call.waited.slots})

    def note(self, wish: Wish, slot: Slot) -> None:
        """Keep a start that was reserved just now."""
        self.booked[wish.key] = Booked(wish.key, slot.start, slot.made)
        self.due[wish.key] = clock.now() + slot.wait

    def missing(self, backend: Backend | None = None) -> list[list[Wish]]:
        """Return the wishes whose start is not known yet, together those that one backend can grant at once.

        Args:
            backend: only those on it.
        """
        return _groups([each for each in self.wishes if each.key not in self.due and backend in (None, each.backend)])

    def give_back(self, used_at: float = math.inf) -> None:
        """Let others have the starts that would be used too late to be good, where that is exact.

        Args:
            used_at: when they would be used; the backend's clock. Infinity: never.
        """
        for wish in self.wishes:
            booked = self.booked.get(wish.key)
            if booked is not None and booked.start + wish.grace < used_at and _given_back(wish, booked):
                del self.booked[wish.key]
                self.due.pop(wish.key, None)


def _groups(wishes: Sequence[Wish]) -> list[list[Wish]]:
    """Return the wishes by their backends, each limit once, in one order for all calls."""
    by_name = {wish.key: wish for wish in sorted(wishes, key=lambda wish: wish.name)}
    found: dict[int, list[Wish]] = {}
    for wish in by_name.values():
        found.setdefault(id(wish.backend), []).append(wish)
    return list(found.values())


def refused(answer: Refused, asked: Sequence[tuple[Wish, float | None]]) -> RefusedError:
    """Return the error of a refusal; `asked` are the wishes, each with its bound in seconds."""
    wish, bound = next((each for each in asked if each[0].name == answer.name), asked[0])
    at = datetime.now(timezone.utc) + timedelta(seconds=answer.wait)
    kind, told = (LockTimeout, f"may wait for {wish.spec.max_wait:g} s") if bound else (LockBusy, "does not wait")
    text = f"{wish}: the next start is in {answer.wait:.1f} s, about {at:%Y-%m-%d %H:%M:%S} UTC, and it {told}"
    return RefusedError(wish, kind(text, name=wish.name))


def _given_back(wish: Wish, booked: Booked) -> bool:
    try:
        return wish.give_back(booked)
    except BackendUnavailable as down:
        _logger.debug("a start of %s stays reserved: %s", wish, down)
        return False
