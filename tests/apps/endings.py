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
