"""`@rate_limited` in real workers: every task starts once, at its moment, and stands in nobody's way.

Bounds are generous, for the machine may be busy: a start may be late by the grace of a quarter of a second or more, so
a window may have that many more; never many more.
"""

from __future__ import annotations

import bisect
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import TaskRevokedError

from tasklocks import LockBusy, LockTimeout, RateLimit, connect
from tests.celery_e2e.conftest import REDELIVERY, Stage, broker_of, make_stage, new_locks
from tests.celery_e2e.two_workers import started_again
from tests.processes import eventually

STAGES = [("redis", "redis"), ("rabbitmq", "sqlite")]


@pytest.fixture(scope="module", params=STAGES, ids="broker={0[0]}-locks={0[1]}".format)
def rated(request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Two workers with two processes each."""
    broker, locks = request.param
    folder = tmp_path_factory.mktemp("rates")
    options = {"app": "tests.apps.rates", "locks": new_locks(locks, folder, redis_url), "concurrency": 2}
    with make_stage(broker_of(request, broker), redis_url, folder, **options) as made, started_again(made):
        yield made


def starts(stage: Stage, name: str, count: int, within: float = 30.0) -> list[float]:
    """Wait until so many have started, and return when; oldest first."""
    return [fact["at"] for fact in stage.wait_for("start", name, count, within=within)]


def tags(stage: Stage, name: str) -> set[Any]:
    return {fact["tag"] for fact in stage.record.facts("start", name)}


def most_in(times: list[float], seconds: float) -> int:
    """How many started in any window of that length, at the most."""
    return max(bisect.bisect_left(times, at + seconds) - number for number, at in enumerate(times))


def test_starts_are_paced_over_two_workers_and_cost_few_messages(rated, limit):
    results = [rated.tasks.paced.delay(limit, number) for number in range(60)]
    times = starts(rated, limit, 60)
    assert most_in(times, 1.0) <= 20 + 5 + 2
    assert times[-1] - times[0] >= 59 / 20 - 0.5
    assert sum(rated.record.count("message", result.id) for result in results) <= 2.05 * len(results)
    assert tags(rated, limit) == set(range(60))
    assert rated.record.count("start", limit) == 60


def test_a_task_that_is_sent_again_comes_once_with_its_reservation_and_is_the_same(rated, limit):
    RateLimit(limit, "4/s", backend=connect(rated.locks)).reserve(cost=8)
    began = time.monotonic()
    result = rated.tasks.both.apply_async((limit,), {"more": {"a", "set"}}, serializer="pickle")
    [at] = starts(rated, limit, 1)
    assert 2 - 0.3 <= at - began <= 2 + 5
    assert result.get(timeout=10)
    first, second = rated.record.facts("message", result.id)
    assert first["mark"] is None
    assert second["mark"]["slots"][0][0] == limit
    assert first["content"] == second["content"] == "application/x-python-serialize"


def test_other_tasks_in_the_queue_are_not_delayed(rated, limit):
    for _ in range(10):
        rated.tasks.slow.delay(limit)
    free = [rated.tasks.free.delay(f"{limit}-free") for _ in range(4)]
    assert [each.get(timeout=20) for each in free] == ["ran"] * 4
    assert rated.record.count("start", limit) < 10


def test_a_pool_that_is_slower_than_the_rate_makes_nobody_lose_its_turn(rated, limit):
    results = [rated.tasks.busy.delay(limit) for _ in range(80)]
    times = starts(rated, limit, 80)
    # Four at once, a tenth of a second each; late ones that went away again would leave processes idle.
    assert times[-1] - times[0] <= 2 * 80 / 4 * 0.1 + 1
    assert sum(rated.record.count("message", result.id) for result in results) <= 2.05 * len(results)


def test_a_burst_starts_at_once_and_the_rest_at_its_pace(rated, limit):
    for _ in range(7):
        rated.tasks.bursting.delay(limit)
    times = starts(rated, limit, 7)
    assert times[6] - times[0] >= 2 - 0.5
    assert times[6] - times[4] >= times[4] - times[0] - 1.0


def test_what_costs_more_waits_longer(rated, limit):
    for points in (10, 10, 10):
        rated.tasks.costing.delay(limit, points)
    times = starts(rated, limit, 3)
    assert times[2] - times[0] >= 1 - 0.3


def test_beyond_its_bound_a_task_fails_at_once(rated, limit):
    assert rated.tasks.impatient.delay(limit).get(timeout=20) == "ran"
    results = [rated.tasks.impatient.delay(limit) for _ in range(2)]
    for result in results:
        with pytest.raises(LockTimeout, match=rf"rate limit '{limit}' .* the next start is in [56]\d"):
            result.get(timeout=20)
        assert rated.sent_again(result.id) == 0


def test_skip_and_raise(rated, limit):
    assert rated.tasks.skipping.delay(limit).get(timeout=20) == "ran"
    assert rated.tasks.skipping.delay(limit).get(timeout=20) is None
    with pytest.raises(LockBusy, match=limit):
        rated.tasks.raising.delay(limit).get(timeout=20)
    assert rated.record.count("start", limit) == 1


def test_wait_waits_in_the_worker(rated, limit):
    results = [rated.tasks.waiting.delay(limit) for _ in range(3)]
    assert [result.get(timeout=20) for result in results] == ["ran"] * 3
    assert sum(rated.sent_again(result.id) for result in results) == 0
    times = starts(rated, limit, 3)
    assert times[2] - times[0] >= 1 - 0.3


def test_a_pause_from_inside_a_task_shifts_those_who_wait_already(rated, limit):
    rated.tasks.slow.delay(limit).get(timeout=20)
    pausing = rated.tasks.pausing.delay(limit, 1.5)
    rated.wait_for("message", pausing.id)
    time.sleep(0.1)
    waiting = [rated.tasks.slow.delay(limit) for _ in range(2)]
    assert [result.get(timeout=20) for result in [pausing, *waiting]] == ["ran"] * 3
    times = starts(rated, limit, 4)
    assert times[2] - times[1] >= 1.5 - 0.3
    assert times[3] - times[2] >= 0.5 - 0.3


def test_chains_groups_chords_and_maps_go_on(rated, limit):
    step, item, collect = rated.tasks.step, rated.tasks.item, rated.tasks.collect
    assert chain(step.s(None, limit, "a"), step.s(limit, "b"), step.s(limit, "c"))().get(timeout=20) == ["a", "b", "c"]
    assert group(item.s(limit, number) for number in range(5))().get(timeout=20) == [0, 1, 4, 9, 16]
    assert chord([item.s(limit, number) for number in range(5)], collect.s())().get(timeout=20) == [0, 1, 4, 9, 16]
    assert item.starmap([(limit, number) for number in range(5)]).delay().get(timeout=20) == [0, 1, 4, 9, 16]
    assert most_in(starts(rated, limit, 18), 0.5) <= 10 + 5 + 2


def test_a_tasks_own_retry_is_counted_by_itself_and_takes_a_start_of_its_own(rated, limit):
    results = [rated.tasks.retrying.delay(limit) for _ in range(3)]
    assert [result.get(timeout=20) for result in results] == [1, 1, 1]
    assert [fact["headers"] for fact in rated.record.facts("start", limit)] == [None] * 6
    times = starts(rated, limit, 6)
    assert times[-1] - times[0] >= 5 / 4 - 0.5


def test_a_revoked_task_that_waits_never_starts_and_the_others_do(rated, limit):
    results = [rated.tasks.slow.delay(limit) for _ in range(4)]
    results[3].revoke()
    with pytest.raises(TaskRevokedError):
        results[3].get(timeout=20)
    assert [result.get(timeout=20) for result in results[:3]] == ["ran"] * 3
    assert rated.record.count("start", limit) == 3


def test_a_lock_and_a_rate_hold_both(rated, limit):
    results = [rated.tasks.both.delay(limit) for _ in range(5)]
    tokens = [result.get(timeout=30) for result in results]
    assert len(set(tokens)) == 5
    assert rated.record.most_at_once(limit) == 1
    times = starts(rated, limit, 5)
    assert times[-1] - times[0] >= 4 / 4 - 0.3


def test_of_several_rates_the_slowest_counts(rated, limit):
    results = [rated.tasks.two_rates.delay(limit) for _ in range(6)]
    assert [result.get(timeout=20) for result in results] == ["ran"] * 6
    times = starts(rated, limit, 6)
    assert times[-1] - times[0] >= 5 / 5 - 0.3
    assert sum(rated.sent_again(result.id) for result in results) <= 6


def test_overlapping_locks_and_rates_all_hold_and_nobody_waits_for_ever(rated, limit):
    draw = random.Random(5)
    names = [f"{limit}-{number}" for number in range(3)]
    sets = [(f"{limit}-lock-{draw.randrange(2)}", draw.choice(names), draw.choice(names)) for _ in range(50)]
    results = [rated.tasks.tangled.delay(*each, tag) for tag, each in enumerate(sets)]
    assert [result.get(timeout=40) for result in results] == list(range(50))
    for name in names:
        times = starts(rated, name, 1)
        assert len(times) == sum(name in each for each in sets), "each limit once, also one that is named twice"
        assert most_in(times, 1.0) <= 20 + 5 + 2
    assert max(rated.record.most_at_once(f"{limit}-lock-{number}") for number in range(2)) == 1


def test_tasks_that_name_the_same_locks_in_opposite_orders_never_wait_for_each_other(rated, limit):
    both = [rated.tasks.x_and_y, rated.tasks.y_and_x]
    results = [task.delay(limit) for _ in range(25) for task in both]
    assert [result.get(timeout=30) for result in results] == ["ran"] * 50
    assert [rated.record.most_at_once(f"{limit}-{lock}") for lock in "xy"] == [1, 1]


def test_a_task_whose_process_is_killed_runs_again(rated, limit, tmp_path):
    result = rated.tasks.killed_once.delay(limit, str(tmp_path / "gate"))
    assert result.get(timeout=30) == "ran"
    assert rated.record.count("start", limit) == 2


@pytest.mark.faults
def test_nothing_is_lost_and_the_pace_is_kept_when_all_workers_are_killed(request, redis_url, tmp_path, limit):
    options: dict[str, Any] = {"app": "tests.apps.rates", "broker_transport_options": REDELIVERY["rabbitmq"]}
    with make_stage(broker_of(request, "rabbitmq"), redis_url, tmp_path, **options) as stage:
        for number in range(60):
            stage.tasks.paced_late.delay(limit, number)
        starts(stage, limit, 10)
        stage.worker.kill()
        time.sleep(1.5)
        with started_again(stage), started_again(stage):
            assert eventually(lambda: tags(stage, limit) == set(range(60)), within=20)
            assert most_in(starts(stage, limit, 60), 1.0) <= 20 + 5 + 2


@pytest.mark.faults
def test_a_backend_that_hangs_does_not_hold_up_the_worker(request, redis_url, redis_server, tmp_path, limit):
    options = {"app": "tests.apps.rates", "locks": f"{redis_server.url}", "concurrency": 2}
    with make_stage(broker_of(request, "redis"), redis_url, tmp_path, **options) as stage:
        starts_once = stage.tasks.paced.delay(limit).get(timeout=20)
        redis_server.pause()
        waiting = [stage.tasks.paced.delay(limit) for _ in range(3)]
        time.sleep(0.5)
        assert [bool(stage.worker.app.control.ping(timeout=1.0)) for _ in range(3)] == [True] * 3
        redis_server.resume()
        assert [starts_once, *(result.get(timeout=40) for result in waiting)] == ["ran"] * 4
