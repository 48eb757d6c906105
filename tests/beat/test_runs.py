"""Runs that must not overlap: how long one stands in the way of the next, however it ends."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import redis
from celery import Celery

from tasklocks import connect
from tasklocks.celery import runs
from tests.conftest import BACKENDS
from tests.processes import eventually
from tests.workers import start_worker

TTL = 2.0


@pytest.fixture(params=BACKENDS)
def app(request, new_backend_url):
    made = Celery("runs", set_as_current=False)
    made.conf.update(tasklocks_url=new_backend_url(request.param), tasklocks_ttl=TTL)
    yield made
    connect(made.conf.tasklocks_url).close()
    made.close()


def begin(app: Celery, task_id: str, overlap: str = "skip", expires: float = 60.0) -> list[str]:
    return runs.begin(connect(app.conf.tasklocks_url), "key", task_id, overlap, expires)


def started(app: Celery, task_id: str, *, acks_late: bool = False) -> SimpleNamespace:
    """Let a run begin as in a worker, and return its task."""
    task = SimpleNamespace(app=app, acks_late=acks_late, request=SimpleNamespace(headers={runs.HEADER: "key"}))
    runs._begun(task_id, task)
    return task


def killed(task: SimpleNamespace) -> None:
    """What is left of a run whose process is gone: a lease that nobody renews."""
    task.request.tasklocks_run_lease.release()


def test_a_run_stands_in_the_way_while_it_waits_and_while_it_runs(app):
    assert begin(app, "first") == []
    assert begin(app, "second") == ["first waits"]
    task = started(app, "first")
    assert begin(app, "second") == ["first runs"]
    runs._ended("first", task, "SUCCESS")
    assert begin(app, "second") == []


@pytest.mark.parametrize("app", ["sqlite", "redis", "etcd"], indirect=True)
def test_a_run_outlasts_its_wait_as_long_as_its_worker_lives(app):
    assert begin(app, "first", expires=0.1) == []
    task = started(app, "first")
    time.sleep(TTL + 1)
    assert begin(app, "second") == ["first runs"]
    runs._ended("first", task, "SUCCESS")


def test_a_run_whose_worker_is_gone_stands_in_nobodys_way(app):
    assert begin(app, "first", expires=3600.0) == []
    killed(started(app, "first"))
    assert begin(app, "second") == []


def test_a_run_whose_message_comes_back_is_waited_for(app):
    assert begin(app, "first", expires=0.8) == []
    task = started(app, "first", acks_late=True)
    assert task.request.tasklocks_run_lease is None
    assert begin(app, "second") == ["first runs"]
    time.sleep(0.9)
    assert begin(app, "second") == []


def test_a_run_that_is_tried_again_waits_again(app):
    assert begin(app, "first", expires=0.1) == []
    runs._ended("first", started(app, "first"), "RETRY")
    assert begin(app, "second") == ["first waits"]
    task = started(app, "first")
    assert begin(app, "second", "queue_one") == []
    runs._ended("first", task, "SUCCESS")


@pytest.mark.parametrize("killed_process", ["worker", "child"])
def test_a_killed_worker_holds_up_its_entry_for_the_ttl_only(killed_process, field_of, new_backend_url, redis_database):
    entries = {"entry": {"every": 0.5, "seconds": 600.0, "options": {"overlap": "skip"}}}
    pool = "threads" if killed_process == "worker" else "prefork"
    with (
        field_of(new_backend_url("redis"), entries, tasklocks_ttl=TTL) as field,
        redis.Redis.from_url(redis_database) as broker,
    ):
        field.reader.close()
        worker = start_worker(field.settings, pool=pool, concurrency=1)
        try:
            field.start()
            worker.wait_for("received", within=20)
            time.sleep(2 * TTL)
            assert worker.log().count("received") == 1, "nothing is sent while it runs, however long that is"
            (worker.kill if killed_process == "worker" else worker.kill_child)()
            queue = field.settings.environ["TEST_QUEUE"]
            assert eventually(lambda: broker.llen(queue) or worker.log().count("received") == 2, within=TTL + 4)
        finally:
            worker.kill()
            worker.app.close()
