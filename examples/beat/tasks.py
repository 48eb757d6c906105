"""The app of the example: one task, every second. Without settings it needs no server, only a directory."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from celery import Celery

import tasklocks  # noqa: F401 - in a worker: ends the marks of runs that must not overlap

FOLDER = Path(os.environ.get("EXAMPLE_FOLDER", "/tmp/tasklocks-beat-example"))
RECORD = FOLDER / "record.jsonl"

app = Celery("tasks")
if "BROKER_URL" in os.environ:
    app.conf.broker_url = os.environ["BROKER_URL"]
    app.conf.tasklocks_url = os.environ["TASKLOCKS_URL"]
else:
    # Messages are files, and the lead is in SQLite: the demo's broker, which lies beside this example.
    sys.path.append(str(Path(__file__).resolve().parent.parent / "demo"))
    from broker import settings

    app.conf.update(settings(FOLDER / "broker"), tasklocks_url=f"sqlite:///{FOLDER}/locks.db")

app.conf.update(
    tasklocks_beat_ttl=float(os.environ.get("EXAMPLE_TTL", "10")),
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    beat_schedule={
        "every-second": {"task": "tasks.tick", "schedule": 1.0},
        # Its run takes longer than its interval: no second one is sent before it has ended.
        "slow": {"task": "tasks.slow", "schedule": 1.0, "options": {"overlap": "skip"}},
    },
)


def note(what: str, task_id: str) -> None:
    """Add a line to the record."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with RECORD.open("a") as record:
        record.write(json.dumps({"what": what, "task": task_id, "at": time.time()}) + "\n")


@app.task(bind=True, name="tasks.tick")
def tick(self) -> None:
    """Note that it ran."""
    note("tick", self.request.id)


@app.task(bind=True, name="tasks.slow")
def slow(self) -> None:
    """Note when it began and when it ended."""
    note("slow begins", self.request.id)
    time.sleep(2.2)
    note("slow ends", self.request.id)
