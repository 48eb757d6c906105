"""Admission beside what else a worker can be told: how its pool changes, how it fetches, acknowledges and stops."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.celery_e2e.conftest import REDELIVERY, Stage, broker_of, make_stage, new_locks
from tests.processes import eventually
from tests.workers import start_worker

AT_ONCE = "/"  # a gate that is open


@pytest.fixture
def own(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> Callable[..., AbstractContextManager[Stage]]:
    """Return a function that starts a worker with admission and further options on a kind of broker."""

    def start(broker: str, **options) -> AbstractContextManager[Stage]:
        conf = (
            {"broker_transport_options": {**REDELIVERY[broker], "visibility_timeout": 60}} if broker == "redis" else {}
        )
        locks = new_locks("redis", tmp_path, redis_url)
        return make_stage(
            broker_of(request, broker), redis_url, tmp_path, locks=locks, tasklocks_admission=None, **conf, **options
        )

    return start


def messages(stage: Stage, results: list) -> list[int]:
    return [stage.record.count("message", result.id) for result in results]


OPTIONS = {
    "its processes are replaced and their number follows the load": (
        "redis",
        {"worker_max_tasks_per_child": 3, "args": ["--autoscale", "3,1"]},
    ),
    "it fetches without bound": ("redis", {"worker_prefetch_multiplier": 0}),
    "it fetches no more than it can run and acknowledges late": (
        "rabbitmq",
        {"worker_prefetch_multiplier": 1, "task_acks_late": True, "task_reject_on_worker_lost": True},
    ),
    "it fetches only what it can run": ("redis", {"worker_disable_prefetch": True, "task_acks_late": True}),
    "tasks have time limits": ("redis", {"task_time_limit": 30, "task_soft_time_limit": 20}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_task_is_one_message_and_runs_alone_also_where(own, limit, name):
    broker, options = OPTIONS[name]
    with own(broker, **options) as stage:
        results = [stage.tasks.early.delay(limit, 0.01) for _ in range(20)]
        free = [stage.tasks.collect.delay(number) for number in range(20)]
        assert [each.get(timeout=30) for each in results] == ["ran"] * 20
        assert [each.get(timeout=30) for each in free] == list(range(20))
        assert stage.record.most_at_once(limit) == 1
        assert messages(stage, results) == [1] * 20


@pytest.mark.parametrize("kind", ["mongodb", "zookeeper"])
def test_processes_that_are_forked_while_the_worker_itself_stands_in_line_use_the_backend(
    request, redis_url, tmp_path, new_backend_url, kind, limit
):
    """The main process has connections and threads of its own, which a process that is forked later must not touch."""
    options = {"locks": new_backend_url(kind), "tasklocks_admission": None, "worker_max_tasks_per_child": 2}
    with make_stage(broker_of(request, "redis"), redis_url, tmp_path, **options) as stage:
        held = [stage.tasks.early.delay(limit) for _ in range(6)]
        in_the_body = [stage.tasks.waiting.delay(limit) for _ in range(6)]
        assert [each.get(timeout=60) for each in [*held, *in_the_body]] == ["ran"] * 12
        assert stage.record.most_at_once(limit) == 1


def test_where_the_prefetch_count_has_a_bound_free_tasks_pass_all_the_same(own, limit):
    with own("redis", worker_eta_task_limit=10) as stage:
        with stage.held(limit):
            results = [stage.tasks.early.delay(limit, 0.01) for _ in range(20)]
            free = [stage.tasks.collect.delay(number) for number in range(20)]
            assert [each.get(timeout=30) for each in free] == list(range(20))
        assert [each.get(timeout=60) for each in results] == ["ran"] * 20
        assert stage.record.most_at_once(limit) == 1


def test_on_a_quorum_queue_free_tasks_pass_those_that_wait(own, limit):
    """Its prefetch count cannot be changed, so no more than half of it are held."""
    with own(
        "rabbitmq", env={"TEST_QUEUE_TYPE": "quorum"}, broker_native_delayed_delivery_queue_type="classic"
    ) as stage:
        with stage.held(limit):
            waiting = [stage.tasks.early.delay(limit) for _ in range(20)]
            free = [stage.tasks.collect.delay(number) for number in range(10)]
            assert [each.get(timeout=30) for each in free] == list(range(10))
        assert [each.get(timeout=60) for each in waiting] == ["ran"] * 20
        assert stage.record.most_at_once(limit) == 1


def test_the_pool_and_the_queues_change_while_messages_are_held(own, limit):
    with own("redis") as stage:
        control = stage.worker.app.control
        with stage.held(limit):
            results = [stage.tasks.early.delay(limit) for _ in range(10)]
            for each in results:
                stage.wait_for("message", each.id)
            control.pool_grow(2, reply=True, timeout=1)
            stage.tasks.save_to_storage.delay("a", 0.1).get(timeout=20)
            control.pool_shrink(3, reply=True, timeout=1)
            queue = stage.worker.settings.environ["TEST_QUEUE"]
            control.cancel_consumer(queue, reply=True, timeout=1)
        assert [each.get(timeout=30) for each in results] == ["ran"] * 10
        more = stage.tasks.early.delay(limit)
        assert not eventually(lambda: stage.record.count("message", more.id), within=1)
        control.add_consumer(queue, reply=True, timeout=1)
        assert more.get(timeout=20) == "ran"
        assert stage.record.most_at_once(limit) == 1


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_a_task_whose_process_is_killed_runs_again_only_if_it_asked_for_that(own, limit, broker, late):
    options = {"task_acks_late": late, "task_reject_on_worker_lost": late}
    with own(broker, **options) as stage, stage.gate() as gate:
        victim = stage.tasks.until.delay(limit, gate)
        [begun] = stage.wait_for("begin", limit)
        follower = stage.tasks.until.delay(limit, AT_ONCE)
        stage.wait_for("message", follower.id)
        stage.worker.kill_child(begun["pid"])
        assert follower.get(timeout=20)
        Path(gate).touch()
        if late:
            assert victim.get(timeout=20)
        assert stage.record.count("begin", limit) == 2 + late


def test_a_worker_that_is_stopped_softly_gives_back_what_it_holds_and_ends_what_runs(own, limit):
    with own("redis", concurrency=1, worker_soft_shutdown_timeout=10) as stage, stage.gate() as gate:
        running = stage.tasks.until.delay(limit, gate)
        stage.wait_for("begin", limit)
        held = [stage.tasks.until.delay(limit, AT_ONCE) for _ in range(3)]
        for each in held:
            stage.wait_for("message", each.id)
        other = start_worker(stage.worker.settings, tasks=stage.worker.tasks)
        try:
            os.kill(stage.worker.pid, signal.SIGQUIT)
            time.sleep(1)
            assert stage.record.count("begin", limit) == 1
            Path(gate).touch()
            assert all(each.get(timeout=30) for each in [running, *held])
        finally:
            other.stop()
        assert stage.record.most_at_once(limit) == 1
