"""The broker or the backend of the locks goes away for seconds: no task is lost, and none runs without a lease."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tasklocks import BackendUnavailable
from tests.celery_e2e.conftest import LOCKS, REDELIVERY, Stage
from tests.conftest import BROKERS, require
from tests.processes import eventually
from tests.servers import RabbitServer, RedisServer
from tests.workers import start_worker

AT_ONCE = "/"  # a gate that is open


class Outage(NamedTuple):
    """Locks that a test can take away: their URL, and a block in which they do not answer."""

    url: str
    down: Callable[[], AbstractContextManager[None]]


@pytest.fixture(params=LOCKS)
def fragile(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outage]:
    """Locks of each kind that can be taken away."""
    if request.param == "sqlite":
        path = tmp_path / "fragile.db"
        yield Outage(f"sqlite:///{path}?timeout=0.3", lambda: _locked_database(path))
        return
    require(RedisServer)
    with RedisServer(tmp_path / "fragile") as server:
        yield Outage(server.url, lambda: _killed(server))


@pytest.fixture(params=BROKERS)
def mortal_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer | RabbitServer]:
    """A broker of the test's own that keeps its messages over a restart."""
    kind = RabbitServer if request.param == "rabbitmq" else RedisServer
    require(kind)
    options = ["--appendonly", "yes", "--appendfsync", "always"] if kind is RedisServer else []
    with kind(tmp_path / "broker", *options) as server:
        yield server


def test_no_task_runs_and_none_is_lost_while_the_backend_is_down(fragile, redis_database, new_stage, limit):
    with new_stage(redis_database, locks=fragile.url) as stage:
        before = stage.tasks.until.delay(limit, AT_ONCE).get(timeout=30)
        with fragile.down():
            results = [stage.tasks.until.delay(limit, AT_ONCE) for _ in range(4)]
            for result in results:
                stage.wait_for_resend(result.id)
            assert stage.record.count("begin", limit) == 1
            assert eventually(lambda: {result.state for result in results} == {"RETRY"}, within=20)
        tokens = [result.get(timeout=60) for result in results]
    assert min(tokens) > before
    assert len(set(tokens)) == 4
    assert stage.record.most_at_once(limit) == 1


def test_tasks_that_say_so_fail_while_the_backend_is_down(fragile, redis_database, new_stage, limit):
    with new_stage(redis_database, locks=fragile.url) as stage:
        with fragile.down(), pytest.raises(BackendUnavailable):
            stage.tasks.strict.delay(limit).get(timeout=60)
        assert stage.record.count("begin", limit) == 0
        assert stage.tasks.strict.delay(limit).get(timeout=30) == "ran"


def test_a_task_that_waits_in_the_worker_runs_after_the_backend_came_back(fragile, redis_database, new_stage, limit):
    with new_stage(redis_database, locks=fragile.url) as stage, stage.gate() as gate:
        holder = stage.tasks.until.delay(limit, gate)
        stage.wait_for("begin", limit)
        waiter = stage.tasks.waiting_until.delay(limit, AT_ONCE)
        stage.wait_for("message", waiter.id)
        with fragile.down():
            assert not eventually(lambda: stage.record.count("begin", limit) > 1, within=1)
        Path(gate).touch()
        assert holder.get(timeout=60) < waiter.get(timeout=60)
    assert stage.record.most_at_once(limit) == 1


@pytest.mark.slow
def test_waiting_tasks_outlive_a_restart_of_the_broker(mortal_broker, new_stage, limit):
    again = REDELIVERY["redis" if isinstance(mortal_broker, RedisServer) else "rabbitmq"]
    with new_stage(mortal_broker.url, broker_transport_options=again) as stage:
        with stage.held(limit):
            results = [stage.tasks.patiently.delay(limit) for _ in range(5)]
            for result in results:
                stage.wait_for_resend(result.id)
            mortal_broker.process.stop(within=30)
            mortal_broker.kill()
            mortal_broker.start()
        with _another_worker(stage):
            assert [result.get(timeout=60) for result in results] == ["ran"] * 5
    assert stage.record.most_at_once(limit) == 1


@pytest.mark.slow
def test_a_busy_task_keeps_its_quorum_queue_over_many_waits(rabbitmq_url, new_stage, limit):
    options = {"env": {"TEST_QUEUE_TYPE": "quorum"}, "broker_native_delayed_delivery_queue_type": "classic"}
    with new_stage(rabbitmq_url, **options) as stage:
        queues = [stage.tasks.MAIN, stage.tasks.JOBS]
        with stage.held(limit):
            results = [stage.tasks.see.apply_async((limit,), queue=queue.name) for queue in queues]
            for result in results:
                stage.wait_for_resend(result.id, 3)
        for queue, result in zip(queues, results, strict=True):
            assert result.get(timeout=30) == "()"
            first, *later = stage.record.facts("message", result.id)
            assert first["delivery_info"]["routing_key"] == queue.routing_key
            for message in later:
                # RabbitMQ itself delayed it: the bits of the delay come before the queue's key.
                assert message["delivery_info"]["routing_key"].endswith(f".0.1.{queue.routing_key}")
                assert "x-death" in message["headers"]


@contextmanager
def _another_worker(stage: Stage) -> Iterator[None]:
    """Start a worker beside the first, whose process may have ended: kombu 5.7 does not survive a restart of Redis."""
    second = start_worker(stage.worker.settings, tasks=stage.tasks)
    try:
        yield
    finally:
        second.stop()


@contextmanager
def _locked_database(path: Path) -> Iterator[None]:
    """Hold the write lock of a database, as a process that is stopped inside a transaction does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield
        database.execute("ROLLBACK")


@contextmanager
def _killed(server: RedisServer) -> Iterator[None]:
    server.kill()
    yield
    server.start()
