"""Where a task is in a worker, and what it waits for there: read from what Celery and admission know, nothing is asked.

A lock's line is in the backend for all to see. What only the worker knows is what has not come so far: a message that
is held for its lock but does not stand in line yet, one that is held until its ETA or until the start that it has
reserved, one that waits for a place in the pool. A task's arguments are never part of the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery.worker import state
from celery.worker.request import Request

from tasklocks.celery.admission.overview import all_held
from tasklocks.celery.waited import read

__all__ = ["whereabouts"]


def whereabouts(consumer: Any, task_id: str) -> list[dict[str, Any]]:
    """Return what a worker knows of the task with this id, or the beginning of one; times are seconds since the epoch.

    `does` is `runs`, `waits for a lock`, `is due` (at `eta`) or `waits for a place`. `slots` are the starts that it has
    reserved under rate limits: name, start and when it was reserved, on the backend's clock.
    """
    held = [_held(each) for each in all_held(consumer) if each.request.id.startswith(task_id)]
    due = [_fact(each, "is due") for each in _timed(consumer) if each.id.startswith(task_id)]
    running = set(state.active_requests)
    runs = [_fact(each, "runs") for each in running if each.id.startswith(task_id)]
    reserved = set(state.reserved_requests) - running
    waits = [_fact(each, "waits for a place") for each in reserved if each.id.startswith(task_id)]
    return [*runs, *held, *due, *waits]


def _timed(consumer: Any) -> Iterator[Request]:
    """Yield the messages that the worker holds until a moment, by an ETA or by a start that it reserved."""
    for waiting in list(consumer.timer.schedule.queue):
        request = next(iter(waiting.entry.args or ()), None)
        if isinstance(request, Request) and not waiting.entry.canceled:
            yield request


def _held(each: Any) -> dict[str, Any]:
    return {**_fact(each.request, "waits for a lock"), "limit": each.key[1], "stands": each.standing}


def _fact(request: Request, does: str) -> dict[str, Any]:
    waited = read(request.request_dict)
    return {
        "does": does,
        "task": request.name,
        "id": request.id,
        "pid": request.worker_pid,
        "eta": request.eta.timestamp() if request.eta else None,
        "waited": waited.times,
        "slots": [[slot.name, slot.start, slot.made] for slot in waited.slots],
    }
