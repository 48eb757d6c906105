"""Runs of periodic tasks that must not overlap: marked by the beat when sent, ended by the worker that ran them.

A mark is a line in a small text of the backend: which task, since when, whether it waits or runs. It ends by itself
when its time is over, so that a worker that was killed does not stop a schedule for ever.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from celery import signals

from tasklocks.backends.base import Backend
from tasklocks.celery.conf import settings_of
from tasklocks.errors import TaskLocksError

__all__ = ["HEADER", "begin", "end", "key_of"]

HEADER = "tasklocks_run"
"""The header of a message that says which mark its task ends."""

_KEEP = 86400.0
_WAITS, _RUNS = "waits", "runs"

_logger = logging.getLogger("tasklocks")
_Marks = dict[str, tuple[str, float]]


def key_of(schedule: str, entry: str) -> str:
    """Return the name of the text that keeps the runs of an entry."""
    return f"{schedule}/runs/{entry}"


def begin(backend: Backend, key: str, task_id: str, overlap: str, expires: float) -> list[str]:
    """Mark a run as waiting, unless others are in its way; return those.

    Args:
        backend: where it is marked.
        key: what `key_of` returned.
        task_id: the run.
        overlap: `skip`: every other run is in its way; `queue_one`: those that wait.
        expires: seconds after which the mark ends by itself.
    """

    def change(text: str, now: float) -> tuple[str, float, list[str]]:
        marks = {other: mark for other, mark in _read(text).items() if mark[1] > now and other != task_id}
        blocking = [f"{other} {state}" for other, (state, _) in marks.items() if overlap == "skip" or state == _WAITS]
        if not blocking:
            marks[task_id] = _WAITS, now + expires
        return json.dumps(marks), max([_KEEP, *(until - now for _, until in marks.values())]), blocking

    return backend.update(key, change)


def end(backend: Backend, key: str, task_id: str, state: str | None = None) -> None:
    """Note that a run is over, or is now in another state; a run whose mark is gone stays without one."""

    def change(text: str, now: float) -> tuple[str, float, None]:
        marks = _read(text)
        if (found := marks.pop(task_id, None)) is not None and state is not None:
            marks[task_id] = state, found[1]
        return json.dumps(marks), max([_KEEP, *(until - now for _, until in marks.values())]), None

    try:
        backend.update(key, change)
    except TaskLocksError as error:
        _logger.warning("the mark of run %s could not be changed, it ends by itself: %s", task_id, error)


def _note(app: Any, key: str, task_id: str, state: str | None) -> None:
    end(settings_of(app).backend(None, "periodic task"), key, task_id, state)


def _read(text: str) -> _Marks:
    try:
        return {str(task): (str(state), float(until)) for task, (state, until) in json.loads(text or "{}").items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def _key(request: Any) -> str | None:
    headers = getattr(request, "headers", None) or {}
    return headers.get(HEADER) if isinstance(headers, dict) else None


@signals.task_prerun.connect(dispatch_uid="tasklocks.runs")
def _begun(task_id: str = "", task: Any = None, **_: Any) -> None:
    if key := _key(task.request):
        _note(task.app, key, task_id, _RUNS)


@signals.task_postrun.connect(dispatch_uid="tasklocks.runs")
def _ended(task_id: str = "", task: Any = None, state: str = "", **_: Any) -> None:
    if key := _key(task.request):
        _note(task.app, key, task_id, _WAITS if state == "RETRY" else None)


@signals.task_revoked.connect(dispatch_uid="tasklocks.runs")
def _revoked(sender: Any = None, request: Any = None, terminated: bool = False, **_: Any) -> None:
    # Terminated: its body may still be running; Celery reports its end later, as a failure.
    if not terminated and (key := _key(request) or getattr(request, "_request_dict", {}).get(HEADER)):
        _note(sender.app, key, request.id, None)
