"""The prefetch count of a worker is what its pool and its held messages need, whatever Celery makes of it.

Celery adds one for each message with an ETA, but not beyond `worker_eta_task_limit`, and takes one off for each in the
end. After a lost connection it sets the count anew, to what the pool needs.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from tasklocks import RateLimit
from tests.celery_e2e.conftest import Stage, make_stage, new_locks
from tests.celery_e2e.test_admission import prefetch_counts
from tests.processes import eventually
from tests.relay import relayed

PATIENCE = 20
"""Seconds; a message is held for longer than that."""


def stage_of(broker: str, redis_url: str, folder: Path, **options) -> AbstractContextManager[Stage]:
    options["broker_transport_options"] = {"visibility_timeout": 600}
    locks = new_locks("redis", folder, redis_url)
    return make_stage(broker, redis_url, folder, locks=locks, tasklocks_admission=True, **options)


def free_tasks_pass(stage: Stage) -> bool:
    free = [stage.tasks.collect.delay(number) for number in range(20)]
    return [each.get(timeout=PATIENCE) for each in free] == list(range(20))


def test_messages_that_came_back_with_an_eta_leave_the_way_to_others(redis_url, tmp_path, limit):
    with stage_of(redis_url, redis_url, tmp_path, worker_eta_task_limit=10) as stage, stage.held(limit):
        results = [stage.tasks.early.delay(limit) for _ in range(10)]
        # Put aside, and here again before anything else is in the queue.
        for each in results[-4:]:
            stage.wait_for("message", each.id, times=2)
        results += [stage.tasks.early.delay(limit) for _ in range(10)]
        assert free_tasks_pass(stage)


def test_after_a_lost_connection_others_pass_those_that_wait(rabbitmq_url, redis_url, tmp_path, limit):
    with relayed(rabbitmq_url) as (relay, broker), stage_of(broker, redis_url, tmp_path) as stage, stage.gate() as gate:
        with stage.held(limit), stage.gate() as other:
            stage.tasks.free_until.delay(other)
            stage.wait_for("begin", other)
            relay.cut()
            stage.worker.wait_for("Temporarily reducing the prefetch count")
            # Celery sets the count back when the first message after that is acknowledged.
            stage.wait_for("message", stage.tasks.until.delay(limit, gate).id)
            for each in [stage.tasks.early.delay(limit) for _ in range(30)]:
                stage.wait_for("message", each.id)
        stage.wait_for("begin", limit)
        assert free_tasks_pass(stage)


def test_after_a_lost_connection_the_count_of_paced_messages_comes_down_to_what_it_was(
    rabbitmq_url, redis_url, tmp_path, limit
):
    with (
        relayed(rabbitmq_url) as (relay, broker),
        stage_of(broker, redis_url, tmp_path, app="tests.apps.rates") as stage,
    ):
        with stage.gate() as gate:
            stage.tasks.free_until.delay(gate)
            stage.wait_for("begin", gate)
            relay.cut()
            stage.worker.wait_for("Temporarily reducing the prefetch count")
        # So that the first of them is acknowledged after all have come.
        RateLimit(limit, "20/s", backend=stage.locks).pause(2)
        paced = [stage.tasks.paced.delay(limit) for _ in range(60)]
        assert all(each.get(timeout=30) for each in paced)
        assert eventually(lambda: 8 <= min(prefetch_counts(stage), default=0) <= 8 + 2 * 20, within=10)
