"""Workers are killed and messages delivered twice: no task is lost, and no two run under one permit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from celery.exceptions import TaskRevokedError, TimeLimitExceeded, WorkerLostError

from tasklocks import connect
from tests.celery_e2e.conftest import REDELIVERY, Stage
from tests.processes import eventually
from tests.workers import Worker, start_worker

TTL = 2.0


@pytest.mark.parametrize("name", ["late_until", "until"])
def test_a_task_runs_alone_with_late_and_with_early_acknowledgement(name, stage, limit):
    task = getattr(stage.tasks, name)
    with stage.gate() as gate:
        results = [task.delay(limit, gate) for _ in range(3)]
        stage.wait_for("begin", limit)
        assert eventually(lambda: sum(stage.sent_again(result.id) for result in results) >= 2, within=20)
        assert stage.record.count("begin", limit) == 1
    tokens = [result.get(timeout=30) for result in results]
    assert len(set(tokens)) == 3
    assert stage.record.most_at_once(limit) == 1
    assert stage.record.count("begin", limit) == 3


def test_after_its_worker_was_killed_a_task_waits_for_the_lease_to_end_and_runs(deployment, new_stage, limit):
    with _two_workers(new_stage, *deployment) as (stage, _), stage.gate() as gate:
        result = stage.tasks.late_until.delay(limit, gate)
        [first] = stage.wait_for("begin", limit)
        killed_at = _kill_owner(stage, first)
        begins = stage.wait_for("begin", limit, times=2)
        assert begins[1]["pid"] != first["pid"]
        # Renewed every third of it, the lease had two thirds to live at the least.
        assert begins[1]["at"] - killed_at > TTL * 0.5
        assert begins[1]["token"] > first["token"]
        assert stage.record.count("begin", limit) == 2
    assert result.get(timeout=30) > first["token"]


def test_a_message_that_redis_delivers_again_beside_its_running_task_waits_for_it(
    redis_database, locks_url, new_stage, limit
):
    with _two_workers(new_stage, redis_database, locks_url) as (stage, _):
        with stage.gate() as gate:
            result = stage.tasks.late_until.delay(limit, gate)
            stage.wait_for("begin", limit)
            assert eventually(lambda: stage.sent_again(result.id) >= 2, within=20)
            assert stage.record.count("begin", limit) == 1
        result.get(timeout=30)
        assert eventually(lambda: not connect(stage.locks).inspect(limit).holders, within=20)
    assert stage.record.most_at_once(limit) == 1


def test_tasks_that_wait_in_a_killed_worker_run_in_another(deployment, new_stage, limit):
    with _two_workers(new_stage, *deployment) as (stage, second):
        with stage.held(limit):
            results = [stage.tasks.patiently.delay(limit) for _ in range(6)]
            for result in results:
                stage.wait_for_resend(result.id)
            stage.worker.kill()
        assert [result.get(timeout=60) for result in results] == ["ran"] * 6
        assert second.process.running
    assert stage.record.most_at_once(limit) == 1


def test_a_killed_child_of_the_pool_frees_its_permit_within_ttl(stage, limit):
    with stage.gate() as gate:
        result = stage.tasks.brief_until.delay(limit, gate)
        [begun] = stage.wait_for("begin", limit)
        stage.worker.kill_child(begun["pid"])
        with pytest.raises(WorkerLostError):
            result.get(timeout=30)
    killed_at = time.monotonic()
    assert stage.tasks.early.delay(limit).get(timeout=30) == "ran"
    assert time.monotonic() - killed_at < TTL + 5


def test_a_task_past_its_hard_limit_keeps_its_permit_as_long_as_it_lives(stage, limit):
    result = stage.tasks.ending_slowly.apply_async((limit,), time_limit=1)
    stage.wait_for("alive", limit)
    other = stage.tasks.early.delay(limit)
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=30)
    assert other.get(timeout=30) == "ran"
    [begun] = stage.record.facts("begin", limit)
    assert all(sign["at"] < begun["at"] for sign in stage.record.facts("alive", limit))


def test_a_terminated_task_keeps_its_permit_as_long_as_it_lives(stage, limit):
    result = stage.tasks.ending_slowly.delay(limit)
    stage.wait_for("alive", limit)
    other = stage.tasks.early.delay(limit)
    result.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=30)
    assert other.get(timeout=30) == "ran"
    [begun] = stage.record.facts("begin", limit)
    assert all(sign["at"] < begun["at"] for sign in stage.record.facts("alive", limit))


@contextmanager
def _two_workers(new_stage, broker: str, locks: str) -> Iterator[tuple[Stage, Worker]]:
    """Two workers on one queue; the stage is the first one's."""
    again = REDELIVERY["redis" if broker.startswith("redis") else "rabbitmq"]
    conf = {"broker_transport_options": again, "worker_prefetch_multiplier": 1, "tasklocks_ttl": TTL}
    with new_stage(broker, locks=locks, **conf) as stage:
        second = start_worker(stage.worker.settings, tasks=stage.tasks)
        try:
            yield stage, second
        finally:
            second.stop()


def _kill_owner(stage: Stage, begun: dict) -> float:
    """Kill the worker in which a section runs, and return when."""
    assert begun["pid"] in stage.worker.children
    stage.worker.kill()
    return time.monotonic()
