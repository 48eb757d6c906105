"""Tasks with a lock and rates in real workers: no start is used up in vain, nothing leaks, nobody waits for ever."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasklocks import connect
from tasklocks.rates import RateState
from tests.celery_e2e.conftest import REDELIVERY, Stage, broker_of, make_stage
from tests.celery_e2e.test_rates import most_in, starts, tags
from tests.celery_e2e.two_workers import started_again
from tests.processes import eventually

STAGES = [("redis", "redis"), ("rabbitmq", "mongodb")]
COUNT = 20


@pytest.fixture(params=STAGES, ids="broker={0[0]}-locks={0[1]}".format)
def both(
    request: pytest.FixtureRequest, redis_url: str, tmp_path: Path, new_backend_url: Callable[[str], str]
) -> Iterator[Stage]:
    """A worker with four processes."""
    broker, locks = request.param
    options = {"app": "tests.apps.rates", "locks": new_backend_url(locks), "concurrency": 4}
    with make_stage(broker_of(request, broker), redis_url, tmp_path, **options) as made:
        yield made


def reserved(stage: Stage, limit: str) -> float:
    """How many starts the server has counted so far, used or not."""

    def look(text: str, now: float) -> tuple[str, float, float]:
        counted = RateState.read(text).counted
        return text, 0.0, counted[0][-1][2] if counted and counted[0] else 0.0

    return connect(stage.locks).update(f"{limit}-count", look)


def test_no_start_is_used_while_the_lock_is_busy_however_many_wait(both, limit):
    with both.held(f"{limit}-lock"):
        results = [both.tasks.together.delay(limit, tag) for tag in range(COUNT)]
        busy_until = time.monotonic() + 3
        for result in results:
            both.wait_for_resend(result.id)
        time.sleep(max(0.0, busy_until - time.monotonic()))
        assert reserved(both, limit) == 0
    assert sorted(result.get(timeout=40) for result in results) == list(range(COUNT))
    assert reserved(both, limit) == COUNT, "each start was used"
    assert both.record.most_at_once(limit) == 1
    assert most_in(starts(both, limit, COUNT), 1.0) <= 20 + 5 + 2


@pytest.mark.faults
def test_a_worker_that_is_killed_leaks_no_lease_and_few_starts(request, redis_url, tmp_path, limit):
    options: dict[str, Any] = {"app": "tests.apps.rates", "broker_transport_options": REDELIVERY["rabbitmq"]}
    with make_stage(broker_of(request, "rabbitmq"), redis_url, tmp_path, concurrency=2, **options) as stage:
        for tag in range(COUNT):
            stage.tasks.together.delay(limit, tag, 0.05)
        ran = len(starts(stage, limit, 5))
        stage.worker.kill()
        with started_again(stage):
            assert eventually(lambda: tags(stage, limit) == set(range(COUNT)), within=30)
            # A task that comes again brings its start if it was sent away, and else takes another one.
            assert reserved(stage, limit) <= stage.record.count("start", limit) + 2 * 2
            assert stage.record.count("start", limit) <= COUNT + ran
            with stage.held(f"{limit}-lock"):
                pass
