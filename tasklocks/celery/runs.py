"""Runs of periodic tasks that must not overlap: marked by the beat when sent, ended by the worker that ran them.

A mark is a line in a small text of the backend: which task, whether it waits or runs, until when at the longest. While
it runs, its worker holds a lease, so that a run whose worker was killed stops no schedule for longer than the lease
lasts. A mark that waits ends by itself when its time is over.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any

from celery import signals

from tasklocks import waiting, who
from tasklocks.backends.base import Backend
from tasklocks.celery.conf import settings_of
from tasklocks.errors import TaskLocksError
from tasklocks.leases import Lease
from tasklocks.types import AcquireRequest

__all__ = ["HEADER", "begin", "end", "key_of", "lasts_at_most"]

HEADER = "tasklocks_run"
"""The header of a message that says which mark its task ends."""

_KEEP = 30 * 86400.0  # seconds; a run that lasts longer is forgotten
_MANY = 10_000  # runs of one entry at once; more than any queue of them
_WAITS, _RUNS = "waits", "runs"
_AGAIN = 3600.0  # seconds for which a run that is to be tried again waits at the longest
_SKEW = 60.0  # seconds by which a worker's clock may be behind, and it runs what has expired for others
_LEASE = "tasklocks_run_lease"

_logger = logging.getLogger("tasklocks")


@dataclass(frozen=True, slots=True)
class _Mark:
    """One run.

    Attributes:
        state: it waits, or runs.
        until: backend's clock; it counts as ended then, unless its worker holds a lease.
        owner: of that lease; empty if there is none.
    """

    state: str
    until: float
    owner: str = ""

    def counts(self, now: float, dead: Collection[str]) -> bool:
        return self.owner not in dead if self.owner else self.until > now


_Marks = dict[str, _Mark]


def key_of(schedule: str, entry: str) -> str:
    """Return the name of the text that keeps the runs of an entry."""
    return f"{schedule}/runs/{entry}"


def lasts_at_most(options: Mapping[str, Any], longest: float) -> float:
    """Return the seconds after which a run that is sent now with these options, and was lost, does not wait any more.

    Args:
        options: those of `apply_async`.
        longest: what its entry says.
    """
    expires = options.get("expires")
    if isinstance(expires, datetime):
        expires = (expires.astimezone() - datetime.now(timezone.utc)).total_seconds()
    if not isinstance(expires, (int, float)):
        return longest
    return min(longest, max(expires, 0.0) + _SKEW)


def begin(backend: Backend, key: str, task_id: str, overlap: str, expires: float) -> list[str]:
    """Mark a run as waiting, unless others are in its way; return those.

    Args:
        backend: where it is marked.
        key: what `key_of` returned.
        task_id: the run.
        overlap: `skip`: every other run is in its way; `queue_one`: those that wait.
        expires: seconds after which the mark ends by itself.
    """
    mark = partial(_marked, task_id=task_id, overlap=overlap, expires=expires)
    blocking = backend.update(key, mark)
    running = {each.owner for each in blocking.values() if each.owner}
    if running:
        # Read after the marks: a lease is taken before its mark is made, so one that is not there has ended.
        dead = running - {holder.owner for holder in backend.inspect(key).holders}
        if dead:
            blocking = backend.update(key, partial(mark, dead=dead))
    return [f"{other} {each.state}" for other, each in blocking.items()]


def _marked(
    text: str, now: float, *, task_id: str, overlap: str, expires: float, dead: Collection[str] = ()
) -> tuple[str, float, _Marks]:
    marks = {other: mark for other, mark in _read(text).items() if mark.counts(now, dead) and other != task_id}
    blocking = {other: mark for other, mark in marks.items() if overlap == "skip" or mark.state == _WAITS}
    if not blocking:
        marks[task_id] = _Mark(_WAITS, now + expires)
    return _written(marks), _KEEP, blocking


def end(backend: Backend, key: str, task_id: str, state: str | None = None, owner: str = "") -> None:
    """Note that a run is over, or is now in another state; a run whose mark is gone stays without one."""

    def change(text: str, now: float) -> tuple[str, float, None]:
        marks = _read(text)
        if (found := marks.pop(task_id, None)) is not None and state is not None:
            until = max(found.until, now + _AGAIN) if state == _WAITS else found.until
            marks[task_id] = _Mark(state, until, owner)
        return _written(marks), _KEEP, None

    try:
        backend.update(key, change)
    except TaskLocksError as error:
        _logger.warning("the mark of run %s could not be changed, it ends by itself: %s", task_id, error)


def _note(app: Any, key: str, task_id: str, state: str | None, owner: str = "") -> None:
    end(settings_of(app).backend(None, "periodic task"), key, task_id, state, owner)


def _lease_of(task: Any, key: str, task_id: str) -> Lease | None:
    """Return a lease that says that this run is alive; None if there can be none, or it must not count."""
    # Its message comes back if its worker dies: it waits then, and has not ended.
    if task.acks_late:
        return None
    settings = settings_of(task.app)
    backend = settings.backend(None, "periodic task")
    ttl = max(settings.ttl, backend.capabilities.min_ttl)
    owner = f"{task_id}:{secrets.token_hex(6)}"
    request = AcquireRequest(key, owner, capacity=_MANY, ttl=ttl, info=who.this_process())
    try:
        return waiting.take(backend, request, lambda grant: Lease(backend, grant), timeout=0.0)
    except TaskLocksError as error:
        _logger.warning("run %s counts as running until its mark ends by itself: %s", task_id, error)
        return None


def _written(marks: _Marks) -> str:
    return json.dumps({task: asdict(mark) for task, mark in marks.items()})


def _read(text: str) -> _Marks:
    try:
        marks = json.loads(text or "{}").items()
        return {str(task): _Mark(str(said["state"]), float(said["until"]), str(said["owner"])) for task, said in marks}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _key(request: Any) -> str | None:
    headers = getattr(request, "headers", None) or {}
    return headers.get(HEADER) if isinstance(headers, dict) else None


@signals.task_prerun.connect(dispatch_uid="tasklocks.runs")
def _begun(task_id: str = "", task: Any = None, **_: Any) -> None:
    if key := _key(task.request):
        lease = _lease_of(task, key, task_id)
        setattr(task.request, _LEASE, lease)
        _note(task.app, key, task_id, _RUNS, lease.owner if lease else "")


@signals.task_postrun.connect(dispatch_uid="tasklocks.runs")
def _ended(task_id: str = "", task: Any = None, state: str = "", **_: Any) -> None:
    if not (key := _key(task.request)):
        return
    _note(task.app, key, task_id, _WAITS if state == "RETRY" else None)
    if (lease := getattr(task.request, _LEASE, None)) is not None:
        try:
            lease.release()
        except TaskLocksError as error:
            _logger.debug("the lease of run %s ends by itself: %s", task_id, error)


@signals.task_revoked.connect(dispatch_uid="tasklocks.runs")
def _revoked(sender: Any = None, request: Any = None, terminated: bool = False, **_: Any) -> None:
    # Terminated: its body may still be running; Celery reports its end later, as a failure.
    if not terminated and (key := _key(request) or getattr(request, "_request_dict", {}).get(HEADER)):
        _note(sender.app, key, request.id, None)
