"""What a task that was sent again carries in its message's header: what it waited for, and what it has reserved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tasklocks.types import Slot

__all__ = ["HEADER", "Booked", "Waited", "read", "written"]

HEADER = "tasklocks"
"""The message header in which a task carries what it waited for so far."""


@dataclass(frozen=True, slots=True)
class Booked:
    """A start that a task has reserved.

    Attributes:
        name: the rate limit, as the call knows it (see `Wish.key`).
        start: backend's clock.
        made: backend's clock; when it was reserved.
        late: whether it was given to a task that had come too late for its first one.
    """

    name: str
    start: float
    made: float
    late: bool = False

    @property
    def slot(self) -> Slot:
        """The reservation as the backend made it."""
        return Slot(self.start, self.made, max(0.0, self.start - self.made))


@dataclass(frozen=True, slots=True)
class Waited:
    """What a task waited for so far.

    Attributes:
        times: how often it was sent again because a lock was busy.
        since: the backend's clock when it first found its lock busy; None if it did not wait yet.
        slots: the starts that it has reserved.
    """

    times: int = 0
    since: float | None = None
    slots: tuple[Booked, ...] = ()


def written(waited: Waited) -> dict[str, Any]:
    """Return it for the header: of kinds that every serializer knows."""
    said: dict[str, Any] = {"times": waited.times, "since": waited.since}
    if waited.slots:
        said["slots"] = [[each.name, each.start, each.made, each.late] for each in waited.slots]
    return said


def read(headers: Any) -> Waited:
    """Return what the header says; anybody may have written it, so what makes no sense counts as nothing."""
    found = headers.get(HEADER) if isinstance(headers, dict) else None
    if not isinstance(found, dict):
        return Waited()
    times, since = found.get("times"), found.get("since")
    return Waited(
        times if isinstance(times, int) and times > 0 else 0,
        float(since) if isinstance(since, (int, float)) and math.isfinite(since) else None,
        _slots(found.get("slots")),
    )


def _slots(found: Any) -> tuple[Booked, ...]:
    if not isinstance(found, (list, tuple)):
        return ()
    return tuple(Booked(*each) for each in found if _is_booked(each))


def _is_booked(each: Any) -> bool:
    return (
        isinstance(each, (list, tuple))
        and [type(part) for part in each[:1]] == [str]
        and len(each) == 4
        and all(isinstance(part, (int, float)) and math.isfinite(part) for part in each[1:])
    )
