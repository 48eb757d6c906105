"""What the messages are that a worker holds: for `celery inspect`, from what the worker knows; no backend is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tasklocks import clock
from tasklocks.celery.admission.held import Held
from tasklocks.celery.admission.step import AdmissionStep
from tasklocks.types import Busy

__all__ = ["all_held", "told"]


def all_held(consumer: Any) -> Sequence[Held]:
    """Return what a worker holds, oldest first; nothing where there is no admission."""
    steps = (step for step in consumer.steps if isinstance(step, AdmissionStep))
    return [each for step in steps for each in step.all_held()]


def told(consumer: Any) -> Iterator[dict[str, Any]]:
    """Yield what each message waits for: limit, task, place in line, since when, and in how many seconds it may start.

    The place counts all workers, and is the one that the backend said last; for one that does not stand in line yet it
    is a guess: behind those that do. `since` is the backend's clock, in seconds since 1970. None: not known.
    """
    last: dict[Any, tuple[Busy | None, int]] = {}
    for each in all_held(consumer):
        busy, behind = last.get(each.key, (None, 0))
        if each.standing and each.answered and each.busy is not None:
            busy, behind = each.busy, 0
        last[each.key] = busy, behind + 1
        yield {
            "limit": each.key[1],
            "task": each.request.id,
            "does": "waits",
            "place": None if busy is None else busy.ahead + behind + 1,
            "since": each.waits_since(each.key[0]),
            "expected_in": None if busy is None else _expected_in(busy, behind, each.wants[each.first].spec.permits),
        }


def _expected_in(busy: Busy, behind: int, permits: int) -> float | None:
    """Return the seconds until the start, if every permit is held for as long as usual."""
    if busy.usual_hold is None:
        return None
    held = max((busy.server_time - holder.since for holder in busy.holders), default=0.0)
    turns = (busy.ahead + behind) * permits // busy.capacity
    first = max(0.0, busy.usual_hold - held) if busy.holders else 0.0
    return round(max(0.0, busy.asked_at + first + turns * busy.usual_hold - clock.now()), 3)
