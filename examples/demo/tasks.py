"""The demo's Celery app: count the words of files, three files at once, and merge the counts into one index.

celery -A tasks worker         # with DEMO_FOLDER set; `run.py` does all that
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import broker
from celery import Celery, Task, signals
from record import Record

from tasklocks import current_lease, locked

__all__ = ["INDEX", "READERS", "app", "count_words", "merge", "open_index", "words_of"]

FOLDER = Path(os.environ["DEMO_FOLDER"])
INDEX = FOLDER / "index.json"
READERS = 3
PACE = float(os.environ.get("DEMO_PACE", "1"))
"""How slow the tasks are: 1 is slow enough to watch them."""

record = Record(FOLDER / "record.jsonl")

app = Celery("demo", set_as_current=True)
app.conf.update(
    **broker.settings(FOLDER / "broker"),
    result_backend=f"file://{FOLDER}/results",
    tasklocks_url=f"sqlite:///{FOLDER}/locks.db",
    tasklocks_admission=False,  # to be seen here is what is seen with any worker: a task that is sent again
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=True,
    broker_connection_retry_on_startup=True,
)
(FOLDER / "results").mkdir(exist_ok=True)

if os.environ.get("DEMO_WITHOUT_LOCKS"):

    def locked(*_: Any, **__: Any) -> Callable[[Any], Any]:
        """Lock nothing, to show that the demo notices."""
        return lambda function: function


@app.task(bind=True)
@locked("index")
def open_index(self: Task) -> None:
    """Make an empty index; takes its time, so that the next task finds the mutex busy."""
    with _written_down(self, "index", "open the index"):
        _write_index({"files": 0, "words": {}})
        time.sleep(0.5 + PACE)


@app.task(bind=True)
@locked("readers", READERS)
def count_words(self: Task, path: str) -> dict[str, Any]:
    """Count the words of a file."""
    name = Path(path).name
    with _written_down(self, "readers", name):
        text = Path(path).read_text(encoding="utf-8", errors="replace")
        time.sleep(PACE * (0.1 + len(text) / 100_000))
        return {"file": name, "words": words_of(text)}


@app.task(bind=True)
@locked("index")
def merge(self: Task, counted: dict[str, Any]) -> None:
    """Add a file's counts to the index, in the way that loses counts if two do it at once: read, think, write."""
    with _written_down(self, "index", counted["file"]):
        index = json.loads(INDEX.read_text())
        words = Counter(index["words"])
        words.update(counted["words"])
        time.sleep(PACE * 0.06)
        _write_index({"files": index["files"] + 1, "words": words})


def words_of(text: str) -> Counter[str]:
    """Return how often each word is in `text`."""
    return Counter(word.lower() for word in re.findall(r"[A-Za-z]{3,}", text))


def _write_index(index: dict[str, Any]) -> None:
    part = INDEX.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(index))
    part.rename(INDEX)


def _written_down(task: Task, limit: str, what: str) -> Any:
    lease, request = current_lease(), task.request
    token = lease.fencing_token if lease else 0
    who = {"task": request.id, "worker": request.hostname, "retries": request.retries}
    return record.hold(limit, what=what, token=token, **who)


@signals.task_retry.connect
def _sent_again(request: Any = None, reason: Any = None, **_: Any) -> None:
    record.append(event="retry", name=request.task, task=request.id, reason=str(reason))


@signals.task_failure.connect
def _failed(sender: Any = None, task_id: str = "", exception: Any = None, **_: Any) -> None:
    record.append(event="failure", name=sender.name, task=task_id, reason=f"{type(exception).__name__}: {exception}")
