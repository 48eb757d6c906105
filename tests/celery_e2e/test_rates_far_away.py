"""Starts that are far away: the tasks wait in the broker, not in the memory of a worker, and come back in time.

The workers here take a few seconds for a long wait (see `tests.apps.rates_hasty`). They are started once
a broker, and again after a test that stops them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest
from celery import chain, chord

from tasklocks import RateLimit, connect
from tests.celery_e2e.conftest import Stage, broker_of, make_stage, new_locks
from tests.celery_e2e.test_rates import most_in, starts, tags
from tests.celery_e2e.two_workers import held_by_workers, started_again
from tests.processes import eventually

BOUND = 2.0
OPTIONS: dict[str, Any] = {
    "app": "tests.apps.rates_hasty",
    "concurrency": 2,
    "tasklocks_max_countdown": BOUND,
    # Redis delivers what a worker holds for longer than this to another one, too.
    "broker_transport_options": {
        "visibility_timeout": 5,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
}


# Each promise on one broker, the other one in `make soak`: most of their time these tests wait.
def soaked(broker: str) -> Any:
    return pytest.param(broker, marks=pytest.mark.soak)


ON_REDIS = pytest.mark.parametrize("pair", ["redis", soaked("rabbitmq")], indirect=True)
ON_RABBITMQ = pytest.mark.parametrize("pair", ["rabbitmq", soaked("redis")], indirect=True)


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Stage]]:
    """Return a function that starts a worker on a kind of broker, unless one runs there."""
    folder = tmp_path_factory.mktemp("pair")
    with ExitStack() as stages:

        @cache
        def stage_on(broker: str) -> Stage:
            options = {**OPTIONS, "locks": new_locks("redis", folder, redis_url)}
            if broker == "rabbitmq":
                del options["broker_transport_options"]
            return stages.enter_context(make_stage(broker_of(request, broker), redis_url, folder, **options))

        def with_worker(broker: str) -> Stage:
            stage = stage_on(broker)
            if not stage.worker.process.running:
                stage.worker = stages.enter_context(started_again(stage))
            return stage

        yield with_worker


@pytest.fixture
def pair(request: pytest.FixtureRequest, running: Callable[[str], Stage]) -> Stage:
    """One of two workers that take a few seconds for a long wait."""
    return running(request.param)


def away_until(stage: Stage, limit: str, seconds: float) -> None:
    """Use up the starts of the next seconds of a limit of 20 a second."""
    RateLimit(limit, "20/s", backend=connect(stage.locks)).reserve(cost=20 * seconds)


def in_later_queues(stage: Stage) -> int:
    """How many messages stay in the later queues of the workers' queue."""
    home = stage.worker.app.conf.task_default_queue
    with stage.worker.app.connection_for_read() as connection:
        channel = connection.channel()
        names = [f"{home}.tasklocks-later-{stay}s" for stay in (1, 3)]
        return sum(channel.queue_declare(name, durable=True, auto_delete=False).message_count for name in names)


@ON_REDIS
def test_what_waits_long_is_in_no_workers_memory_and_starts_in_time(pair, second, limit):
    away_until(pair, limit, 4)
    began = time.monotonic()
    results = [pair.tasks.paced.delay(limit, number) for number in range(40)]
    # On a busy machine the first ones may be on their way back before the last ones have come.
    assert eventually(lambda: in_later_queues(pair) >= 30, within=8), in_later_queues(pair)
    assert held_by_workers(pair) <= 10
    times = starts(pair, limit, 40)
    assert times[0] - began >= 4 - 0.5
    assert most_in(times, 1.0) <= 20 + 5 + 2
    assert times[-1] - times[0] <= 40 / 20 + 3
    assert tags(pair, limit) == set(range(40))
    assert pair.record.count("start", limit) == 40
    # The first message, and the one that comes back when its start is near.
    assert sum(pair.record.count("message", result.id) for result in results) <= 2 * 40


@ON_RABBITMQ
def test_a_task_that_was_far_away_is_the_same_when_it_comes_back(pair, limit):
    options = {"serializer": "pickle", "compression": "gzip", "priority": 3, "expires": 600, "time_limit": 50}
    options |= {"headers": {"own": "header"}, "correlation_id": "mine", "reply_to": "nobody", "argsrepr": "(hidden)"}
    told = []
    for seconds in (0, 3):
        away_until(pair, limit, seconds or 0.1)
        sent = pair.tasks.telling.apply_async((limit,), {"more": {"a set"}}, **options)
        told.append({key: value.replace(sent.id, "the-id") for key, value in sent.get(timeout=30).items()})
    near, far = told
    assert {key: value for key, value in near.items() if key != "expires"} == {
        key: value for key, value in far.items() if key != "expires"
    }
    assert "own" in far["headers"]
    assert [fact["more"] for fact in pair.record.facts("start", limit)] == [repr({"a set"})] * 2


@ON_REDIS
def test_what_the_pool_sends_away_for_long_waits_in_the_broker_too_and_is_the_same_when_it_comes_back(pair, limit):
    RateLimit(limit, "4/s", backend=connect(pair.locks)).reserve(cost=4 * 4)
    sent = pair.tasks.both.apply_async((limit,), {"more": {"a set"}}, serializer="pickle", priority=3)
    assert eventually(lambda: in_later_queues(pair) == 1, within=6)
    assert eventually(lambda: sent.state == "RETRY", within=5)
    assert sent.get(timeout=30)
    first, second = pair.record.facts("message", sent.id)
    assert second["mark"]["slots"][0][0] == limit
    assert first["content"] == second["content"] == "application/x-python-serialize"


@ON_RABBITMQ
def test_chains_and_chords_go_on_when_their_tasks_come_back(pair, limit):
    step, item, collect = pair.tasks.step, pair.tasks.item, pair.tasks.collect
    away_until(pair, limit, 3)
    whole = chain(step.s(None, limit, "a"), step.s(limit, "b"))()
    every = chord([item.s(limit, number) for number in range(5)], collect.s())()
    assert whole.get(timeout=30) == ["a", "b"]
    assert sorted(every.get(timeout=30)) == [0, 1, 4, 9, 16]


@ON_REDIS
def test_a_worker_that_is_stopped_and_started_again_loses_nothing_and_does_nothing_twice(pair, limit):
    # Nothing starts at that moment: what Celery's pool has just accepted is delivered again, whoever sent it.
    away_until(pair, limit, 3)
    for number in range(20):
        pair.tasks.paced.delay(limit, number)
    assert eventually(lambda: held_by_workers(pair, workers=1) > 0, within=20), "the first ones have come back"
    pair.worker.stop()
    with started_again(pair):
        assert eventually(lambda: tags(pair, limit) == set(range(20)), within=40), len(tags(pair, limit))
        assert pair.record.count("start", limit) == 20


@ON_RABBITMQ
@pytest.mark.faults
def test_nothing_is_lost_when_all_workers_are_killed_while_tasks_are_far_away(pair, second, limit):
    for number in range(100):
        pair.tasks.paced_late.delay(limit, number)
    starts(pair, limit, 20)
    assert eventually(lambda: in_later_queues(pair) > 25, within=5)
    pair.worker.kill()
    second.kill()
    with started_again(pair), started_again(pair):
        assert eventually(lambda: tags(pair, limit) == set(range(100)), within=50), len(tags(pair, limit))
        assert most_in(starts(pair, limit, 100), 1.0) <= 20 + 5 + 2


@ON_REDIS
def test_other_tasks_are_not_delayed_by_those_that_are_far_away(pair, limit):
    # The last test, for what it sends stays in the queues of this broker.
    away_until(pair, limit, 600)
    for number in range(100):
        pair.tasks.paced.delay(limit, number)
    assert pair.tasks.free.delay(f"{limit}-free").get(timeout=10) == "ran"
    assert pair.record.count("start", limit) == 0
