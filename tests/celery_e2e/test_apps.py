"""Several apps in one process, shared tasks, and an app whose settings are Django's: each locks where its app says."""

from __future__ import annotations

import types
from collections.abc import Iterator

import pytest
from celery import Celery

from tasklocks import Lock, connect
from tests.celery_e2e.conftest import Stage, make_stage, new_locks
from tests.conftest import empty_redis_database
from tests.workers import settings, start_worker


@pytest.fixture(scope="module")
def two(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A worker of one app in whose process there is a second app."""
    folder = tmp_path_factory.mktemp("two")
    env = {"SECOND_LOCKS": new_locks("redis", folder, redis_url)}
    broker = empty_redis_database(redis_url)
    with make_stage(broker, redis_url, folder, app="tests.celery_e2e.two_apps", env=env, concurrency=1) as made:
        yield made


@pytest.mark.parametrize("name", ["each", "shared_by_each"])
def test_each_app_of_a_process_locks_where_its_settings_say(name, two):
    task = getattr(two.tasks, name)
    assert task.delay().get(timeout=30) == ["ran", "ran"]
    with _held(two.locks, "first", two.tasks.LIMIT):
        assert task.delay().get(timeout=30) == [None, "ran"]
    with _held(two.worker.settings.environ["SECOND_LOCKS"], "tasklocks", two.tasks.LIMIT):
        assert task.delay().get(timeout=30) == ["ran", None]


def test_another_prefix_on_the_same_backend_is_another_limit(two):
    with _held(two.locks, "tasklocks", two.tasks.LIMIT), _held(two.locks, "second", two.tasks.LIMIT):
        assert two.tasks.of_first.delay().get(timeout=30) == "ran"


def test_a_busy_shared_task_is_sent_again_and_runs(stage, limit):
    shared = stage.worker.app.tasks["tests.apps.limits.shared"]
    with stage.held(limit) as lease:
        result = shared.delay(limit)
        stage.wait_for_resend(result.id, 2)
    assert result.get(timeout=30) > lease.fencing_token


def test_a_worker_reads_djangos_settings(redis_url, locks_url):
    pytest.importorskip("django")
    broker = empty_redis_database(redis_url)
    chosen = settings("tests.celery_e2e.django_app", broker=broker, backend=broker, env={"DJANGO_LOCKS": locks_url})
    producer = Celery("producer", broker=broker, backend=broker, set_as_current=False)
    producer.conf.task_default_queue = chosen.environ["TEST_QUEUE"]
    # Django's settings are one a process: they are loaded in the worker's alone.
    worker = start_worker(chosen, pool="solo", tasks=types.ModuleType("producer"))
    try:
        assert producer.send_task("site.report").get(timeout=30) == "ran"
        with _held(locks_url, "django", "report"):
            assert producer.send_task("site.report").get(timeout=30) is None
    finally:
        worker.stop()
        producer.close()


def _held(url: str, prefix: str, name: str) -> Lock:
    return Lock(name, backend=connect(url, prefix=prefix))
