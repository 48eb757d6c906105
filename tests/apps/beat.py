"""An app whose schedule stands in the environment: entries by name, with `every` in seconds or a `cron` expression."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import signals
from celery.schedules import crontab, schedule

import tasklocks.beat  # noqa: F401 - a worker that imports it ends runs that must not overlap, and knows who leads
from tests.apps import make_app

app = make_app("tests.apps.beat")


@app.task
def tick(entry: str, seconds: float = 0.0) -> None:
    time.sleep(seconds)


@signals.before_task_publish.connect
def say_who_sends_it_and_when(sender: str, headers: dict[str, Any], **_: Any) -> None:
    if sender == tick.name:  # for a process of the tests may have other apps, too
        headers["sent"] = [time.time(), os.getpid()]


def entry_of(name: str, said: dict[str, Any]) -> dict[str, Any]:
    when = crontab(*said["cron"].split()) if "cron" in said else schedule(said["every"])
    return {
        "task": tick.name,
        "schedule": when,
        "args": [name, said.get("seconds", 0.0)],
        "options": said.get("options", {}),
    }


app.conf.beat_schedule = {
    name: entry_of(name, said) for name, said in json.loads(os.environ.get("TEST_SCHEDULE", "{}")).items()
}
