"""A task that lost its lease is told soon, on every pool, and no other task ever is."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from tasklocks import LeaseLost, connect
from tests.celery_e2e.conftest import POOLS, Stage, broker_of, make_stage, new_locks

TTL = 2.0  # of the tasks that spin
SOON = 1.0 + TTL / 3


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A worker of each pool."""
    folder = tmp_path_factory.mktemp(f"loss-{request.param}")
    options = {"pool": request.param, "concurrency": 4, "locks": new_locks("redis", folder, redis_url)}
    with make_stage(broker_of(request, "redis"), redis_url, folder, **options) as made:
        yield made


def test_a_task_is_told_of_a_loss_within_a_second_and_a_renewal(pool, limit):
    delays = [_delay(pool, f"{limit}-{number}") for number in range(4)]
    assert max(delays) < SOON, delays


def _delay(pool: Stage, limit: str) -> float:
    """Take the lease of a running task away, at some moment between two renewals; return when the task was told."""
    result = pool.tasks.spinning.delay(limit)
    pool.wait_for("begin", limit)
    time.sleep(random.uniform(0, TTL / 3))
    took_at = time.monotonic()
    assert connect(pool.locks).force_release(limit) == 1
    with pytest.raises(LeaseLost, match=limit):
        result.get(timeout=30)
    [told] = pool.record.facts("lost", limit)
    return told["at"] - took_at


@pytest.mark.parametrize("pool", [kind for kind in POOLS if kind != "solo"], indirect=True)  # it has one at a time
def test_those_who_keep_their_leases_hear_nothing_of_the_loss_of_another(pool, limit):
    with pool.gate() as gate:
        others = [pool.tasks.brief_until.delay(f"{limit}-{number}", gate) for number in range(2)]
        for number in range(2):
            pool.wait_for("begin", f"{limit}-{number}")
        _delay(pool, limit)
        time.sleep(TTL)
    assert [isinstance(other.get(timeout=30), int) for other in others] == [True, True]


def test_who_comes_after_a_loss_hears_nothing_of_it(pool, limit):
    for number in range(2):
        _delay(pool, f"{limit}-{number}")
        results = [pool.tasks.early.delay(f"{limit}-{number}-{follower}") for follower in range(8)]
        assert [result.get(timeout=30) for result in results] == ["ran"] * 8
