"""The app of `admission`: tasks that hold a limit for a while, and free ones, which note when they begin and end."""

from __future__ import annotations

import time
from typing import Any

from celery import signals

from tasklocks import locked
from tests.apps import make_app
from tests.apps.record import note, section

app = make_app("benchmarks.queueing")
app.conf.task_ignore_result = True


@app.task
@locked("mutex")
def one(number: int, hold: float) -> None:
    with section("task", number=number):
        time.sleep(hold)


@app.task
@locked("semaphore", 10)
def ten(number: int, hold: float) -> None:
    with section("task", number=number):
        time.sleep(hold)


@app.task
@locked("held")
def waiting() -> None:
    """Wait for what the benchmark holds."""
    note("end", "waiting")


@app.task
def free(number: int, hold: float) -> None:
    with section("task", number=number):
        time.sleep(hold)


@signals.task_received.connect(weak=False)
def _count_message(**_: Any) -> None:
    note("message", "task")


@signals.task_prerun.connect(weak=False)
def _count_execution(**_: Any) -> None:
    note("execution", "task")
