"""A message that has just arrived in the worker's main process: its call, as the pool's process would see it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from celery.app.task import Context

from tasklocks.celery.conf import Settings, settings_of
from tasklocks.celery.marks import body_of
from tasklocks.celery.work import Work

__all__ = ["as_in_pool"]

T = TypeVar("T")


def as_in_pool(request: Any, make: Callable[[Settings, Work], T]) -> T:
    """Return what `make` makes of the call, with the task and its request, if it is bound, as in the pool."""
    task, args = request.task, tuple(request.args)
    if inspect.ismethod(body_of(task)):
        args = (task, *args)
    task.request_stack.push(Context(request.request_dict))
    try:
        return make(settings_of(task.app), Work(task.run, args, request.kwargs, args))
    finally:
        task.request_stack.pop()
