"""Every pool of Celery keeps the same promises: the mutex holds, a busy task is sent again, all are done in the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tasklocks import LeaseLost, connect
from tests.celery_e2e.conftest import LOCKS, POOLS, Stage, broker_of, make_stage, new_locks
from tests.conftest import BROKERS
from tests.processes import eventually

PAIRS = [(pool, broker) for pool in POOLS for broker in BROKERS]


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def pool(request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A worker of each pool on each broker; the kinds of locks take turns."""
    kind, broker = request.param
    folder = tmp_path_factory.mktemp(kind)
    turn = POOLS.index(kind) + BROKERS.index(broker)
    locks = new_locks(LOCKS[turn % len(LOCKS)], folder, redis_url)
    with make_stage(broker_of(request, broker), redis_url, folder, pool=kind, concurrency=4, locks=locks) as made:
        yield made


def test_busy_tasks_are_sent_again_and_run_one_at_a_time_in_every_pool(pool, limit):
    with pool.held(limit):
        results = [pool.tasks.step.delay(None, limit, str(number)) for number in range(6)]
        for result in results:
            pool.wait_for_resend(result.id)
        assert pool.record.count("begin", limit) == 0
    assert [result.get(timeout=30) for result in results] == [[str(number)] for number in range(6)]
    assert pool.record.count("begin", limit) == 6
    assert pool.record.most_at_once(limit) == 1


def test_a_task_that_waits_in_the_worker_is_woken_in_every_pool(pool, limit):
    with pool.held(limit):
        result = pool.tasks.waiting.delay(limit)
        assert eventually(lambda: connect(pool.locks).inspect(limit).waiters, within=10)
    assert result.get(timeout=30) == "ran"
    assert pool.sent_again(result.id) == 0


def test_a_busy_task_is_skipped_in_every_pool(pool, limit):
    with pool.held(limit):
        assert pool.tasks.skipping.delay(limit).get(timeout=30) is None


def test_a_task_whose_lease_is_taken_away_is_told_inside_its_body_in_every_pool(pool, limit):
    result = pool.tasks.spinning.delay(limit)
    pool.wait_for("begin", limit)
    assert connect(pool.locks).force_release(limit) == 1
    with pytest.raises(LeaseLost, match=limit):
        result.get(timeout=30)
    assert pool.record.count("lost", limit) == 1
