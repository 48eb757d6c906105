"""Limited tasks of every kind, for one worker that many tests share.

Most take the name of their limit as an argument, so that each test has limits of its own. What they do, they note in a
record (see `tests.apps.record`); the main process notes each message as it arrives.
"""

from __future__ import annotations

import os
import time
from typing import Any

from celery import shared_task, signals
from kombu import Exchange, Queue

from tasklocks import LeaseLost, LockedTask, current_lease, locked, news
from tests.apps import make_app
from tests.apps.loop_gaps import note_gaps
from tests.apps.record import note, section

app = make_app("tests.apps.limits")
if os.environ.get("TEST_LOOP"):
    note_gaps(app)

QUEUE = os.environ["TEST_QUEUE"]
# RabbitMQ delays messages to quorum queues itself, but only to topics.
QUORUM = os.environ.get("TEST_QUEUE_TYPE") == "quorum"
ARGUMENTS = {"x-queue-type": "quorum"} if QUORUM else {}
TOPICS = Exchange(f"{QUEUE}-topics", "topic")
OTHER = Queue(f"{QUEUE}-other", Exchange(f"{QUEUE}-direct", "direct"), routing_key="the.other.key")
JOBS = Queue(f"{QUEUE}-jobs", TOPICS, routing_key="jobs.#", queue_arguments=ARGUMENTS)
MAIN = Queue(QUEUE, Exchange(QUEUE, "topic" if QUORUM else "direct"), routing_key=QUEUE, queue_arguments=ARGUMENTS)

app.conf.task_queues = [MAIN, JOBS] if QUORUM else [MAIN, OTHER, JOBS]
app.conf.accept_content = ["json", "pickle"]


@signals.task_received.connect(weak=False)
def note_message(request: Any = None, **_: Any) -> None:
    """Keep the message as it came from the broker."""
    message = request.message
    note(
        "message",
        request.id,
        headers=dict(message.headers),
        properties=dict(message.properties),
        delivery_info=dict(message.delivery_info),
        content=[message.content_type, message.content_encoding],
        payload=repr(message.payload),
    )


# The three patterns that the issue names, word for word.


@app.task
@locked("lock-name")
def one_at_a_time(tag: str, hold: float = 0.02) -> str:
    with section("lock-name", tag=tag):
        time.sleep(hold)
    return tag


@app.task(bind=True)
@locked("save-to-storage-task", 10)
def save_to_storage(self: Any, tag: str, hold: float = 0.02) -> str:
    with section("save-to-storage-task", tag=tag, id=self.request.id):
        time.sleep(hold)
    return tag


class ImportData(LockedTask):
    name = "import-data"
    lock_name = "import-data"
    retry_on_lock = False

    def locked_run(self, tag: str, hold: float = 0.02) -> str:
        with section("import-data", tag=tag, token=self.lease.fencing_token):
            time.sleep(hold)
        return tag


import_data = app.register_task(ImportData())


# The same with a limit of the test's own.


@app.task
@locked("{limit}", countdown=0.1)
def step(so_far: Any, limit: str, tag: str) -> list[str]:
    """Append `tag` to what the step before returned: the result tells the order."""
    with section(limit, tag=tag):
        time.sleep(0.01)
    return [*(so_far or []), tag]


@app.task
@locked("{limit}", on_busy="skip")
def skipping(limit: str, tag: str = "ran") -> str:
    with section(limit, tag=tag):
        time.sleep(0.02)
    return tag


@app.task
@locked("{limit}", on_busy="wait", ttl=2)
def waiting(limit: str, tag: str = "ran") -> str:
    with section(limit, tag=tag):
        time.sleep(0.02)
    return tag


@app.task
@locked("{limit}", on_busy="wait", max_wait=0.3)
def waiting_briefly(limit: str) -> str:
    return _ran(limit)


@app.task
@locked("{first}")
@locked("{second}")
def both(first: str, second: str) -> str:
    """Two locks, in the order of the call."""
    with section(first), section(second):
        time.sleep(0.01)
    return "ran"


@app.task
@locked("{limit}", on_busy="raise")
def raising(limit: str) -> str:
    return _ran(limit)


@app.task
@locked("{limit}", max_wait=0.5, countdown=0.1)
def patient_for_a_while(limit: str) -> str:
    return _ran(limit)


@app.task
def collect(results: Any, key: str = "") -> Any:
    """The body of a chord, or what comes after."""
    if key:
        note("collected", key, results=results)
    return results


@app.task(bind=True)
def note_error(self: Any, *args: Any, key: str) -> None:
    note("errback", key, args=args)


@app.task(bind=True)
@locked("{limit}", countdown=0.05)
def see(self: Any, limit: str, *args: Any, **kwargs: Any) -> str:
    """Note what a task can see of its own request."""
    seen = {key: value for key, value in vars(self.request).items() if not key.startswith(("_", "tasklocks"))}
    note("seen", self.request.id, **{f"request_{key}": value for key, value in seen.items()})
    return repr(args)


@app.task
def parent(limit: str) -> str:
    """Send a limited task from inside; it has this one as its parent."""
    return see.delay(limit).id


@app.task(bind=True)
def replaced(self: Any, limit: str) -> None:
    raise self.replace(see.s(limit))


# A task's own errors beside its waiting.


@app.task(bind=True, max_retries=3, default_retry_delay=0.05)
@locked("{limit}", countdown=0.05)
def failing(self: Any, limit: str, key: str, failures: int) -> int:
    """Fail so many times by its own error, and retry by its own word."""
    note("attempt", key, retries=self.request.retries)
    if self.request.retries < failures:
        raise self.retry(exc=OSError(f"own error {self.request.retries}"))
    return self.request.retries


@app.task(bind=True, autoretry_for=(OSError,), default_retry_delay=0.05, max_retries=3)
@locked("{limit}", countdown=0.05)
def failing_automatically(self: Any, limit: str, key: str, failures: int) -> int:
    note("attempt", key, retries=self.request.retries)
    if self.request.retries < failures:
        raise OSError(f"own error {self.request.retries}")
    return self.request.retries


@app.task(bind=True, max_retries=3)
@locked("{limit}", countdown=0.05, max_wait=2.0)
def retrying_with_a_bound(self: Any, limit: str, key: str) -> str:
    """Retry once by its own word; each of its two waits may take `max_wait`."""
    note("attempt", key, retries=self.request.retries, headers=self.request.headers)
    if self.request.retries == 0:
        raise self.retry(countdown=0.5)
    return "done"


# Many items in one message.


@app.task
@locked("{limit}")
def item(limit: str, number: int) -> int:
    with section(limit, tag=number):
        time.sleep(0.01)
    return number * number


@app.task
@locked("one-item")
def single_item(number: int) -> int:
    with section("one-item", tag=number):
        time.sleep(0.01)
    return number * number


@shared_task
@locked("{limit}")
def shared(limit: str) -> int:
    with section(limit):
        return current_lease().fencing_token


@app.task
@locked("{limit}", on_backend_error="raise")
def strict(limit: str) -> str:
    return _ran(limit)


@app.task
@locked("{limit}", ttl=2)
def early(limit: str, hold: float = 0.02) -> str:
    with section(limit):
        time.sleep(hold)
    return "ran"


# Tasks that run until the test says so: until the file `gate` is there.


@app.task
def free_until(gate: str) -> None:
    note("begin", gate)
    while not os.path.exists(gate):
        time.sleep(0.02)


@app.task(acks_late=True)
@locked("{limit}")
def late_until(limit: str, gate: str) -> int:
    return _until(limit, gate)


@app.task
@locked("{limit}")
def until(limit: str, gate: str) -> int:
    return _until(limit, gate)


@app.task
def is_watched() -> bool:
    """Tell what this process sees of whether somebody wants to hear of limits."""
    return bool(news.watched[0])


@app.task
@locked("{limit}", on_busy="wait")
def waiting_until(limit: str, gate: str) -> int:
    return _until(limit, gate)


def _until(limit: str, gate: str) -> int:
    token = current_lease().fencing_token
    with section(limit, token=token):
        while not os.path.exists(gate):
            time.sleep(0.02)
    return token


@app.task
@locked("{limit}", ttl=2)
def spinning(limit: str) -> str:
    """Run until the lease is lost, in steps that every pool can interrupt."""
    note("begin", limit)
    try:
        for _ in range(400):
            time.sleep(0.05)
    except LeaseLost:
        note("lost", limit)
        raise
    return "ran to its end"


@app.task(acks_late=True)
@locked("{limit}", countdown=0.5)
def patiently(limit: str) -> str:
    return _ran(limit)


def _ran(limit: str) -> str:
    with section(limit):
        time.sleep(0.01)
    return "ran"


@app.task
@locked("{limit}", ttl=2)
def brief_until(limit: str, gate: str) -> int:
    return _until(limit, gate)


@app.task
@locked("{limit}", ttl=2)
def ending_slowly(limit: str) -> None:
    """Give signs of life until it is dead; its end takes time, and needs the permit."""
    try:
        _live(limit, seconds=20)
    finally:
        _live(limit, seconds=3)


def _live(key: str, seconds: float) -> None:
    for _ in range(int(seconds / 0.02)):
        note("alive", key)
        time.sleep(0.02)
