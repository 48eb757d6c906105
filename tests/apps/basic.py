"""Tasks without limits: they show that workers and brokers of the tests work at all."""

from __future__ import annotations

import os
import time

from tests.apps import make_app

app = make_app("tests.apps.basic")


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def sleep_and_tell_pid(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()
