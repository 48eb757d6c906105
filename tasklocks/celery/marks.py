"""Where a limited function carries its limits, and how to find them behind a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tasklocks.celery.rate_spec import RateSpec
from tasklocks.celery.spec import LockSpec

__all__ = ["LIMITS", "Limit", "body_of", "limits_of", "wrapped_chain"]

Limit = LockSpec | RateSpec
"""What a task waits for: a permit, or its moment."""

LIMITS = "__tasklocks__"
"""The attribute that holds a limited function's limits: a tuple of `Limit`, outermost first."""


def wrapped_chain(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Yield the function and what it wraps, outermost first, methods as plain functions."""
    current: Any = function
    while current is not None:
        current = getattr(current, "__func__", current)
        yield current
        current = getattr(current, "__wrapped__", None)


def body_of(task: Any) -> Callable[..., Any]:
    """Return what Celery runs for `task`."""
    # autoretry_for puts a wrapper of its own in front and keeps the original under this name.
    body: Callable[..., Any] = getattr(task, "_orig_run", task.run)
    return body


def limits_of(task: Any) -> tuple[Limit, ...]:
    """Return the limits of a task, or () if it has none."""
    own: tuple[Limit, ...] | None = getattr(type(task), LIMITS, None)
    if own:
        return own
    for function in wrapped_chain(body_of(task)):
        found: tuple[Limit, ...] | None = getattr(function, LIMITS, None)
        if found:
            return found
    return ()
