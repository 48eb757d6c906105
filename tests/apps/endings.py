"""One limited task that can end in every way in which a task can end."""

from __future__ import annotations

import sys
import time
from typing import Any

from celery.exceptions import Ignore, Reject

from tasklocks import locked
from tests.apps import make_app
from tests.apps.record import note

app = make_app("tests.apps.endings")

TTL = 8.0
SLOW = 2.0


@app.task
def after(*_: Any) -> str:
    return "after"


@app.task(bind=True, acks_late=True)
@locked("{limit}", ttl=TTL)
def work(self: Any, limit: str, ending: str, slowly: bool = False) -> str:
    note("begin", limit)
    try:
        return _end(self, ending)
    finally:
        if slowly:
            _linger(limit)
        note("end", limit)


@app.task
@locked("{limit}", ttl=1.0, on_lost="terminate")
def stubborn(limit: str) -> str:
    """Swallow whatever rises, as some code does."""
    note("begin", limit)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            time.sleep(0.02)
        except Exception as error:  # noqa: PERF203 - it rises only once
            note("rose", limit, error=type(error).__name__)
            return "raised"
    return "done"


def _end(task: Any, ending: str) -> str:
    if ending == "error":
        raise ValueError("as asked")
    if ending == "retry" and task.request.retries == 0:
        raise task.retry(countdown=1)
    if ending == "ignore":
        raise Ignore
    if ending == "reject":
        raise Reject("as asked", requeue=False)
    if ending == "replace":
        raise task.replace(after.si())
    if ending == "exit":
        sys.exit(3)
    if ending == "soon":
        time.sleep(2)
    if ending == "never":
        time.sleep(60)
    return "done"


def _linger(limit: str) -> None:
    """Go on for a while, whatever happens, and show it."""
    until = time.monotonic() + SLOW
    while time.monotonic() < until:
        note("alive", limit)
        time.sleep(0.05)
