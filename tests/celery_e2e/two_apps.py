"""Two apps in one process that lock in different places: one has its own prefix, the other its own backend."""

from __future__ import annotations

import os

from celery import shared_task

from tasklocks import locked
from tests.apps import make_app

LIMIT = "the same name"

second = make_app("second")
second.conf.tasklocks_url = os.environ["SECOND_LOCKS"]
app = make_app("first")
app.conf.tasklocks_prefix = "first"


@app.task(shared=False)
@locked(LIMIT, on_busy="skip")
def of_first() -> str:
    return "ran"


@second.task(shared=False)
@locked(LIMIT, on_busy="skip")
def of_second() -> str:
    return "ran"


@shared_task
@locked(LIMIT, on_busy="skip")
def of_both() -> str:
    return "ran"


@app.task(shared=False)
def each() -> list[str | None]:
    """Call the task of each app in this worker's process; a busy one gives None."""
    return [of_first(), of_second()]


@app.task(shared=False)
def shared_by_each() -> list[str | None]:
    return [one.tasks[of_both.name]() for one in (app, second)]
