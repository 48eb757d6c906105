"""What news of a call is about: the call's task, and one limit of it."""

from __future__ import annotations

import time

from tasklocks.backends import Backend
from tasklocks.celery.calls import Call
from tasklocks.celery.marks import Limit
from tasklocks.celery.rate_spec import RateSpec
from tasklocks.news import About

__all__ = ["about_call", "waited_since"]


def about_call(
    call: Call,
    limit: Limit,
    name: str,
    *,
    owner: str = "",
    backend: Backend | None = None,
    permits: int = 1,
    capacity: int | None = None,
) -> About:
    """Return what is known of a call and its limit of that name."""
    task = call.task.name if call.task is not None else call.where
    return About(
        name,
        template=limit.template or task,
        owner=owner,
        backend="" if backend is None else repr(backend),
        rate=isinstance(limit, RateSpec),
        task=task,
        task_id=call.id,
        permits=permits,
        capacity=capacity,
    )


def waited_since(since: float | None) -> float:
    """Return the seconds since a moment of a backend's clock, None: 0.0. By this host's clock: good enough for news."""
    return 0.0 if since is None else max(0.0, time.time() - since)
