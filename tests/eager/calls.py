"""A task for tests that call it where they are, and how long a call may take that has nothing to wait for."""

from __future__ import annotations

from typing import Any

from celery import Celery, Task

from tasklocks import current_lease, locked
from tasklocks.backends import Backend
from tests.local import register

__all__ = ["AT_ONCE", "free", "reporter"]

AT_ONCE = 5.0  # a generous one: without its limit freed, a call would wait for ever


def reporter(app: Celery, runs: list[Any], **options: Any) -> Task:
    """A task that notes its runs, with a lock named "report"."""

    @locked("report", **options)
    def report(day: Any = "monday") -> Any:
        runs.append(day)
        return f"report of {day} under {current_lease().name}"

    return register(app, report, name="report")


def free(backend: Backend, name: str = "report") -> bool:
    return backend.inspect(name).holders == ()
