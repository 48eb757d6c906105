"""Reserves a start when the message arrives, if it comes soon: the worker holds the task so long, as any with an ETA.

Otherwise the task would go through the pool and back to the queue, behind all that is queued already, and come late
from there. A start that is further away is left to the pool's process (see `slots`): then the reservation travels with
the message, and is not lost with this worker. Only for tasks that have rates alone, for locks come first.
"""

from __future__ import annotations

import inspect
import logging
from datetime import datetime, timedelta, timezone
from typing import Any

from celery import Task, signals
from celery.app.task import Context

from tasklocks import clock
from tasklocks.celery.conf import settings_of
from tasklocks.celery.marks import body_of, limits_of
from tasklocks.celery.rate_spec import RateSpec
from tasklocks.celery.slots import SHORT
from tasklocks.celery.waited import HEADER, Booked, Waited, written
from tasklocks.celery.wish import Wish, wish_of
from tasklocks.celery.work import Work
from tasklocks.errors import BackendUnavailable
from tasklocks.types import Slot

__all__ = ["reserve_early"]

_SOON = 10.0  # seconds; more than a busy queue is behind, and as much as a killed worker may leave unused
_LEAVE_ALONE = 5.0  # seconds for which the main process does not wait again for a backend that did not answer

_logger = logging.getLogger("tasklocks")


class _Trouble:
    """Until when (local clock) no backend is asked here."""

    until = 0.0


@signals.task_received.connect(dispatch_uid="tasklocks.early")
def _on_message(request: Any = None, **_: Any) -> None:
    if request is None or request.eta is not None or HEADER in request.request_dict or clock.now() < _Trouble.until:
        return
    try:
        reserve_early(request)
    except BackendUnavailable as down:
        _Trouble.until = clock.now() + _LEAVE_ALONE
        _logger.warning("starts are reserved in the pool for a while: %s", down)
    except Exception:
        # A wrong call, a wrong rate: the task fails by it in the pool, where an error belongs to its task.
        _logger.debug("no start is reserved yet for %s", request.id, exc_info=True)


def reserve_early(request: Any) -> None:
    """Reserve the start of a message that has just arrived, if it is soon, and let the worker hold it until then."""
    limit = _only_rate(request.task)
    if limit is None:
        return
    wish = _wish(request, limit)
    slot = wish.reserve(_SOON if limit.max_wait is None else min(_SOON, limit.max_wait))
    if isinstance(slot, Slot):
        request.request_dict[HEADER] = written(Waited(slots=(Booked(wish.name, slot.start, slot.made),)))
        if slot.wait > SHORT:
            request._eta = datetime.now(timezone.utc) + timedelta(seconds=slot.wait)


def _only_rate(task: Task) -> RateSpec | None:
    limits = limits_of(task)
    if len(limits) != 1 or not isinstance(limits[0], RateSpec) or limits[0].on_busy != "retry":
        return None
    return limits[0]


def _wish(request: Any, limit: RateSpec) -> Wish:
    """Return what the call wants, made as in the pool: with the task and its request, if it is bound."""
    task, args = request.task, tuple(request.args)
    if inspect.ismethod(body_of(task)):
        args = (task, *args)
    task.request_stack.push(Context(request.request_dict))
    try:
        return wish_of(limit, settings_of(task.app), Work(task.run, args, request.kwargs, args))
    finally:
        task.request_stack.pop()
