"""One prefork worker a broker for all tests that do no harm to it, and ways to hold a limit that its tasks need."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tasklocks import Semaphore, connect
from tasklocks.leases import Lease
from tests.apps.record import Record
from tests.celery_e2e.two_workers import started_again
from tests.conftest import empty_redis_database
from tests.processes import eventually
from tests.workers import Worker, worker

# Each broker and each kind of locks once; all combinations would take too long.
STAGES = [("redis", "sqlite"), ("rabbitmq", "redis")]
LOCKS = ["sqlite", "redis"]
_ID = "broker={0[0]}-locks={0[1]}".format
POOLS = ["prefork", "threads", "solo", "gevent"]


def in_files(folder: Path) -> dict[str, Any]:
    """Return the settings of a broker that is a folder: Celery's loop waits for it and cannot be woken."""
    options = {f"data_folder_{way}": str(folder) for way in ("in", "out")}
    return {"broker_transport_options": {**options, "control_folder": str(folder), "polling_interval": 0.1}}


# Redis delivers what is not acknowledged again after a time (an hour if nobody says otherwise), RabbitMQ when the
# connection ends.
REDELIVERY = {
    "redis": {"visibility_timeout": 2, "unacked_restore_interval": 0.5, "unacked_restore_throttle": 1},
    "rabbitmq": {},
}

_numbers = itertools.count(1)


@dataclass
class Stage:
    """A worker, the record of its tasks, and the locks that it uses.

    Attributes:
        worker: the running worker.
        record: what its tasks noted.
        locks: the URL of their locks.
        events: the events that it sent so far.
    """

    worker: Worker
    record: Record
    locks: str
    events: list[dict[str, Any]] = field(default_factory=list, repr=False)

    @property
    def tasks(self) -> Any:
        """The app's module: `stage.tasks.see.delay(…)`."""
        self.worker.app.set_current()  # other stages' apps are in this process, too
        return self.worker.tasks

    @contextmanager
    def held(self, limit: str, capacity: int = 1, permits: int = 1) -> Iterator[Lease]:
        """Keep a limit busy."""
        with Semaphore(limit, capacity, permits=permits, ttl=10, backend=connect(self.locks)) as lease:
            yield lease

    @contextmanager
    def gate(self) -> Iterator[str]:
        """Hold up the tasks that get this path, until the block is left."""
        path = Path(f"{self.record.path}-gate-{next(_numbers)}")
        try:
            yield str(path)
        finally:
            path.touch()

    def wait_for(self, kind: str, key: str, times: int = 1, within: float = 20.0) -> list[dict[str, Any]]:
        """Wait until the tasks noted so many facts, and return them."""
        assert eventually(lambda: self.record.count(kind, key) >= times, within=within), self.record.facts(kind, key)
        return self.record.facts(kind, key)

    def sent_again(self, task_id: str) -> int:
        """How often a task came back after its first message."""
        return self.record.count("message", task_id) - 1

    def wait_for_resend(self, task_id: str, times: int = 1) -> None:
        """Wait until a busy task was sent again so often; with admission, until it is held."""
        if os.environ.get("TEST_ADMISSION") == "1":
            self.wait_for("message", task_id)
            return
        assert eventually(lambda: self.sent_again(task_id) >= times, within=20), (
            f"sent again {self.sent_again(task_id)}"
        )

    def events_of(self, task_id: str, kind: str = "") -> list[dict[str, Any]]:
        """The events about a task, oldest first."""
        return [event for event in self.events if event.get("uuid") == task_id and event["type"].startswith(kind)]


@pytest.fixture(params=LOCKS)
def locks_url(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> str:
    """The URL of each kind of locks in turn, empty."""
    return new_locks(request.param, tmp_path, redis_url)


class Deployment(NamedTuple):
    """The URLs of a broker and of locks."""

    broker: str
    locks: str


@pytest.fixture(scope="session", params=STAGES, ids=_ID)
def stage(request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A prefork worker with four processes that many tests share: each kind of broker and of locks."""
    broker, locks = request.param
    folder = tmp_path_factory.mktemp("stage")
    options = {"locks": new_locks(locks, folder, redis_url), "args": ["-E"], "concurrency": 4}
    with make_stage(broker_of(request, broker), redis_url, folder, **options) as made, capturing(made):
        yield made


@pytest.fixture(params=STAGES, ids=_ID)
def deployment(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> Deployment:
    """A broker and empty locks for a worker of the test's own."""
    broker, locks = request.param
    return Deployment(broker_of(request, broker), new_locks(locks, tmp_path, redis_url))


@pytest.fixture
def new_stage(redis_url: str, tmp_path: Path) -> Callable[..., AbstractContextManager[Stage]]:
    """Return a function that starts a worker of the test's own: `with new_stage(broker, pool="solo") as stage`."""
    return lambda broker, **options: make_stage(broker, redis_url, tmp_path, **options)


@pytest.fixture
def second(pair: Stage) -> Iterator[Worker]:
    """A second worker, beside the one of the stage that a test file calls `pair`."""
    with started_again(pair) as worker:
        yield worker


@pytest.fixture
def limit() -> str:
    """The name of a limit that no other test uses."""
    return f"limit-{next(_numbers)}"


def broker_of(request: pytest.FixtureRequest, kind: str) -> str:
    """Return the URL of a broker."""
    if kind == "redis":
        return empty_redis_database(request.getfixturevalue("redis_url"))
    if kind == "filesystem":
        return "folder://"
    return request.getfixturevalue("rabbitmq_url")


def new_locks(kind: str, folder: Path, redis_url: str) -> str:
    """Return the URL of empty locks."""
    return f"sqlite:///{folder}/locks-{next(_numbers)}.db" if kind == "sqlite" else empty_redis_database(redis_url)


@contextmanager
def make_stage(
    broker: str, redis_url: str, folder: Path, *, app: str = "tests.apps.limits", locks: str = "", **options: Any
) -> Iterator[Stage]:
    """Run a worker whose tasks write into a record in `folder`; further options are those of `worker`."""
    record = Record(folder / f"record-{next(_numbers)}.jsonl")
    locks = locks or f"sqlite:///{folder}/locks.db"
    # Without it Celery refuses pickle where the tests run as root.
    env = {"TEST_RECORD": str(record.path), "C_FORCE_ROOT": "1", **options.pop("env", {})}
    results = empty_redis_database(redis_url)
    with worker(app, broker=broker, backend=results, locks=locks, env=env, **options) as running:
        yield Stage(running, record, locks)


@contextmanager
def capturing(stage: Stage) -> Iterator[None]:
    """Collect the worker's events with a receiver of Celery's own."""
    with stage.worker.app.connection_for_read() as connection:
        receiver = stage.worker.app.events.Receiver(connection, handlers={"*": stage.events.append})
        thread = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=None, wakeup=False))
        thread.start()
        try:
            yield
        finally:
            receiver.should_stop = True
            thread.join()
