"""Rate-limited tasks; what they do, they note in a record (see `tests.apps.record`)."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import shared_task, signals

from tasklocks import current_lease, locked, rate_limited
from tests.apps import make_app
from tests.apps.record import note, section

app = make_app("tests.apps.rates")
app.conf.accept_content = ["json", "pickle"]


@signals.task_received.connect(weak=False)
def note_message(request: Any = None, **_: Any) -> None:
    headers = dict(request.message.headers)
    note("message", request.id, mark=headers.get("tasklocks"), content=request.message.content_type)


def _ran(name: str, **facts: Any) -> str:
    note("start", name, wall=time.time(), **facts)
    return "ran"


@app.task
@rate_limited("{name}", "20/s")
def paced(name: str, tag: Any = None) -> str:
    return _ran(name, tag=tag)


@app.task(acks_late=True)
@rate_limited("{name}", "20/s")
def paced_late(name: str, tag: Any = None) -> str:
    return _ran(name, tag=tag)


@app.task(bind=True)
@rate_limited("{name}", "20/s")
def telling(self: Any, name: str, more: Any = None) -> dict[str, Any]:
    """Tell what a task knows of itself."""
    request = self.request
    known = (
        "id",
        "args",
        "kwargs",
        "root_id",
        "parent_id",
        "group",
        "correlation_id",
        "reply_to",
        "retries",
        "expires",
    )
    facts = {key: repr(getattr(request, key)) for key in (*known, "headers", "timelimit", "delivery_info", "stamps")}
    _ran(name, more=repr(more))
    return facts


@app.task
@rate_limited("{name}", "100/s")
def paced_fast(name: str) -> str:
    return _ran(name)


@app.task(acks_late=True)
@rate_limited("{name}", "50/s")
def paced_for_long(name: str, tag: Any = None) -> str:
    return _ran(name, tag=tag)


@app.task
@rate_limited("{name}", "200/s")
def busy(name: str) -> str:
    time.sleep(0.1)
    return _ran(name)


@app.task
@rate_limited("{name}", "1/s", burst=5)
def bursting(name: str) -> str:
    return _ran(name)


@app.task
@rate_limited("{name}", "20/s", cost=lambda name, points: points)
def costing(name: str, points: int) -> str:
    return _ran(name, points=points)


@app.task
@rate_limited("{name}", "1/m", max_wait=2)
def impatient(name: str) -> str:
    return _ran(name)


@app.task
@rate_limited("{name}", "1/m", on_busy="skip")
def skipping(name: str) -> str:
    return _ran(name)


@app.task
@rate_limited("{name}", "1/m", on_busy="raise")
def raising(name: str) -> str:
    return _ran(name)


@app.task
@rate_limited("{name}", "2/s", on_busy="wait")
def waiting(name: str) -> str:
    return _ran(name)


@app.task
@rate_limited("{name}", "2/s")
def slow(name: str) -> str:
    return _ran(name)


@app.task
@rate_limited("{name}", "2/s")
def pausing(name: str, seconds: float) -> str:
    current_lease().pause(seconds)
    return _ran(name)


@app.task(bind=True, max_retries=1)
@rate_limited("{name}", "4/s")
def retrying(self: Any, name: str) -> int:
    """Fail twice by its own word: one retry, however often it waited."""
    _ran(name, retries=self.request.retries, headers=self.request.headers)
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    return self.request.retries


@app.task
@rate_limited("{name}", "4/s")
@locked("{name}", countdown=0.1)
def both(name: str, more: Any = None) -> int:
    with section(name):
        _ran(name)
        time.sleep(0.1)
    return current_lease().fencing_token


@app.task
@rate_limited("{name}-b", "20/s")
@rate_limited("{name}-a", "5/s")
def two_rates(name: str) -> str:
    return _ran(name)


@app.task
@rate_limited("{first}", "20/s")
@locked("{lock}", countdown=0.1)
@rate_limited("{second}", "20/s")
def tangled(lock: str, first: str, second: str, tag: int) -> int:
    with section(lock):
        for name in {first, second}:
            _ran(name, tag=tag)
    return tag


@app.task
@locked("{name}-x", on_busy="wait")
@rate_limited("{name}", "100/s")
@locked("{name}-y", on_busy="wait")
def x_and_y(name: str) -> str:
    with section(f"{name}-x"), section(f"{name}-y"):
        return _ran(name)


@app.task
@locked("{name}-y", on_busy="wait")
@rate_limited("{name}", "100/s")
@locked("{name}-x", on_busy="wait")
def y_and_x(name: str) -> str:
    with section(f"{name}-x"), section(f"{name}-y"):
        return _ran(name)


@app.task(acks_late=True)
@locked("{name}-lock", ttl=3, countdown=0.1)
@rate_limited("{name}-pace", "20/s")
@rate_limited("{name}-count", "10000/h", algorithm="sliding")
def together(name: str, tag: Any = None, seconds: float = 0.0) -> Any:
    """Its second rate holds nobody back, but knows of every start that was reserved."""
    with section(name):
        _ran(name, tag=tag)
        time.sleep(seconds)
    return tag


@app.task(acks_late=True, reject_on_worker_lost=True)
@rate_limited("{name}", "2/s")
def killed_once(name: str, gate: str) -> str:
    """Die with its process the first time."""
    _ran(name)
    if not os.path.exists(gate):
        with open(gate, "w"):
            os.kill(os.getpid(), 9)
    return "ran"


@app.task
@rate_limited("{name}", "20/s")
def step(so_far: Any, name: str, tag: str) -> list[str]:
    _ran(name, tag=tag)
    return [*(so_far or []), tag]


@shared_task
@rate_limited("{name}", "20/s")
def item(name: str, number: int) -> int:
    _ran(name)
    return number * number


@app.task
def free_until(gate: str) -> None:
    note("begin", gate)
    while not os.path.exists(gate):
        time.sleep(0.02)


@app.task
def free(name: str) -> str:
    return _ran(name)


@app.task
def collect(results: Any) -> Any:
    return results
