"""What news of a call is about: the call's task, and one limit of it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from tasklocks.backends import Backend
from tasklocks.celery.calls import Call
from tasklocks.celery.marks import Limit
from tasklocks.celery.rate_spec import RateSpec
from tasklocks.news import About

__all__ = ["about_call", "about_message", "waited_since"]


def about_call(
    call: Call,
    limit: Limit,
    name: str,
    backend: Backend | None = None,
    *,
    owner: str = "",
    permits: int = 1,
    capacity: int | None = None,
) -> About:
    """Return what is known of a call and its limit of that name."""
    task = call.task.name if call.task is not None else call.where
    known = _about(limit, name, task, call.id, backend)
    return replace(known, owner=owner, permits=permits, capacity=capacity)


def about_message(request: Any, limit: Limit, name: str, backend: Backend, owner: str = "") -> About:
    """Return what is known of a message that is not in the pool yet (a request of Celery's)."""
    known = replace(_about(limit, name, request.task.name, request.id, backend), carrier=request.request_dict)
    if isinstance(limit, RateSpec):
        return known
    # Nobody asks a function of the user's for the sake of news.
    capacity = limit.capacity if isinstance(limit.capacity, int) else None
    return replace(known, owner=owner, permits=limit.permits, capacity=capacity)


def _about(limit: Limit, name: str, task: str, task_id: str, backend: Backend | None) -> About:
    where = "" if backend is None else repr(backend)
    rate = isinstance(limit, RateSpec)
    return About(name, limit.template or task, backend=where, rate=rate, task=task, task_id=task_id)


def waited_since(since: float | None) -> float:
    """Return the seconds since a moment of a backend's clock, None: 0.0. By this host's clock: good enough for news."""
    return 0.0 if since is None else max(0.0, time.time() - since)
