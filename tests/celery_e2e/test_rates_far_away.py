"""Starts that are far away: the tasks wait in the broker, not in the memory of a worker, and come back in time.

The workers here take a few seconds for a long wait (see `tests.apps.rates_hasty`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord

from tasklocks import RateLimit, connect
from tests.celery_e2e.conftest import Stage, broker_of, make_stage, new_locks
from tests.celery_e2e.test_rates import most_in, second_worker, starts, tags
from tests.processes import eventually
from tests.workers import Worker

BOUND = 4.0
OPTIONS: dict[str, Any] = {
    "app": "tests.apps.rates_hasty",
    "concurrency": 2,
    "tasklocks_max_countdown": BOUND,
    # Redis delivers what a worker holds for longer than this to another one, too.
    "broker_transport_options": {
        "visibility_timeout": 9,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
}


# Each promise on one broker, the other one in `make soak`: most of their time these tests wait.
def soaked(broker: str) -> Any:
    return pytest.param(broker, marks=pytest.mark.soak)


ON_REDIS = pytest.mark.parametrize("hasty", ["redis", soaked("rabbitmq")], indirect=True)
ON_RABBITMQ = pytest.mark.parametrize("hasty", ["rabbitmq", soaked("redis")], indirect=True)


@pytest.fixture
def hasty(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> Iterator[Stage]:
    """One of two workers that take a few seconds for a long wait."""
    options = {**OPTIONS, "locks": new_locks("redis", tmp_path, redis_url)}
    if request.param == "rabbitmq":
        del options["broker_transport_options"]
    with make_stage(broker_of(request, request.param), redis_url, tmp_path, **options) as made:
        yield made


@pytest.fixture
def second(hasty: Stage) -> Iterator[Worker]:
    """The other one."""
    with started_again(hasty) as worker:
        yield worker


@contextmanager
def started_again(stage: Stage) -> Iterator[Worker]:
    worker = second_worker(stage)
    try:
        yield worker
    finally:
        worker.stop()


def away_until(stage: Stage, limit: str, seconds: float) -> None:
    """Use up the starts of the next seconds of a limit of 20 a second."""
    RateLimit(limit, "20/s", backend=connect(stage.locks)).reserve(cost=20 * seconds)


def in_later_queues(stage: Stage) -> int:
    """How many messages stay in the later queues of the workers' queue."""
    home = stage.worker.app.conf.task_default_queue
    with stage.worker.app.connection_for_read() as connection:
        channel = connection.channel()
        names = [f"{home}.tasklocks-later-{stay}s" for stay in (2, 6)]
        return sum(channel.queue_declare(name, durable=True, auto_delete=False).message_count for name in names)


def held_by_workers(stage: Stage) -> int:
    inspect = stage.worker.app.control.inspect(timeout=2)
    both = [*(inspect.scheduled() or {}).values(), *(inspect.reserved() or {}).values()]
    return sum(len(each) for each in both)


@ON_REDIS
def test_what_waits_long_is_in_no_workers_memory_and_starts_in_time(hasty, second, limit):
    away_until(hasty, limit, 9)
    began = time.monotonic()
    results = [hasty.tasks.paced.delay(limit, number) for number in range(80)]
    # On a busy machine the first ones may be on their way back before the last ones have come.
    assert eventually(lambda: in_later_queues(hasty) >= 60, within=8), in_later_queues(hasty)
    assert held_by_workers(hasty) <= 20
    times = starts(hasty, limit, 80)
    assert times[0] - began >= 9 - 0.5
    assert most_in(times, 1.0) <= 20 + 5 + 2
    assert times[-1] - times[0] <= 80 / 20 + 3
    assert tags(hasty, limit) == set(range(80))
    assert hasty.record.count("start", limit) == 80
    # The first message, and the one that comes back when its start is near.
    assert sum(hasty.record.count("message", result.id) for result in results) <= 2 * 80


@ON_RABBITMQ
def test_a_task_that_was_far_away_is_the_same_when_it_comes_back(hasty, limit):
    options = {"serializer": "pickle", "compression": "gzip", "priority": 3, "expires": 600, "time_limit": 50}
    options |= {"headers": {"own": "header"}, "correlation_id": "mine", "reply_to": "nobody", "argsrepr": "(hidden)"}
    told = []
    for seconds in (0, 7):
        away_until(hasty, limit, seconds or 0.1)
        sent = hasty.tasks.telling.apply_async((limit,), {"more": {"a set"}}, **options)
        told.append({key: value.replace(sent.id, "the-id") for key, value in sent.get(timeout=30).items()})
    near, far = told
    assert {key: value for key, value in near.items() if key != "expires"} == {
        key: value for key, value in far.items() if key != "expires"
    }
    assert "own" in far["headers"]
    assert [fact["more"] for fact in hasty.record.facts("start", limit)] == [repr({"a set"})] * 2


@ON_REDIS
def test_what_the_pool_sends_away_for_long_waits_in_the_broker_too_and_is_the_same_when_it_comes_back(hasty, limit):
    RateLimit(limit, "4/s", backend=connect(hasty.locks)).reserve(cost=4 * 8)
    sent = hasty.tasks.both.apply_async((limit,), {"more": {"a set"}}, serializer="pickle", priority=3)
    assert eventually(lambda: in_later_queues(hasty) == 1, within=6)
    assert eventually(lambda: sent.state == "RETRY", within=5)
    assert sent.get(timeout=30)
    first, second = hasty.record.facts("message", sent.id)
    assert second["mark"]["slots"][0][0] == limit
    assert first["content"] == second["content"] == "application/x-python-serialize"


@ON_RABBITMQ
def test_chains_and_chords_go_on_when_their_tasks_come_back(hasty, limit):
    step, item, collect = hasty.tasks.step, hasty.tasks.item, hasty.tasks.collect
    away_until(hasty, limit, 6)
    whole = chain(step.s(None, limit, "a"), step.s(limit, "b"))()
    every = chord([item.s(limit, number) for number in range(5)], collect.s())()
    assert whole.get(timeout=30) == ["a", "b"]
    assert sorted(every.get(timeout=30)) == [0, 1, 4, 9, 16]


@ON_REDIS
def test_other_tasks_are_not_delayed_by_those_that_are_far_away(hasty, limit):
    away_until(hasty, limit, 600)
    for number in range(100):
        hasty.tasks.paced.delay(limit, number)
    assert hasty.tasks.free.delay(f"{limit}-free").get(timeout=10) == "ran"
    assert hasty.record.count("start", limit) == 0


@ON_REDIS
def test_a_worker_that_is_stopped_and_started_again_loses_nothing_and_does_nothing_twice(hasty, limit):
    # Nothing starts at that moment: what Celery's pool has just accepted is delivered again, whoever sent it.
    away_until(hasty, limit, 7)
    for number in range(60):
        hasty.tasks.paced.delay(limit, number)
    assert eventually(lambda: held_by_workers(hasty) > 0, within=20), "the first ones have come back"
    hasty.worker.stop()
    with started_again(hasty):
        assert eventually(lambda: tags(hasty, limit) == set(range(60)), within=40), len(tags(hasty, limit))
        assert hasty.record.count("start", limit) == 60


@ON_RABBITMQ
@pytest.mark.faults
def test_nothing_is_lost_when_all_workers_are_killed_while_tasks_are_far_away(hasty, second, limit):
    for number in range(240):
        hasty.tasks.paced_late.delay(limit, number)
    starts(hasty, limit, 20)
    assert eventually(lambda: in_later_queues(hasty) > 50, within=5)
    hasty.worker.kill()
    second.kill()
    time.sleep(1.5)
    with started_again(hasty), started_again(hasty):
        assert eventually(lambda: tags(hasty, limit) == set(range(240)), within=50), len(tags(hasty, limit))
        assert most_in(starts(hasty, limit, 240), 1.0) <= 20 + 5 + 2
