"""With admission a worker takes a task's leases before its pool does: one message and one execution a task, and no slot
for a task that waits."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.exceptions import TaskRevokedError

from tasklocks import LeaseLost, LockTimeout, connect
from tests.celery_e2e.conftest import REDELIVERY, Stage, broker_of, in_files, make_stage, new_locks
from tests.conftest import BROKERS
from tests.processes import eventually
from tests.servers import RedisServer
from tests.workers import Worker, start_worker

AT_ONCE = "/"  # a gate that is open
ADMISSION = {"tasklocks_admission": True}
# Each broker and each pool once, and each kind of locks; of the rest, each other pair of pool and loop.
STAGES = [
    ("redis", "prefork", "redis"),
    ("rabbitmq", "prefork", "sqlite"),
    ("redis", "threads", "redis"),
    ("redis", "solo", "redis"),
    ("rabbitmq", "gevent", "redis"),
    ("filesystem", "prefork", "redis"),
    pytest.param(("redis", "gevent", "redis"), marks=pytest.mark.soak),
    pytest.param(("filesystem", "threads", "redis"), marks=pytest.mark.soak),
]


@pytest.fixture(scope="module", params=STAGES, ids=lambda stage: "-".join(stage))
def stage(request: pytest.FixtureRequest, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A worker with admission that many tests share, and a second one beside it."""
    broker, pool, locks = request.param
    folder = tmp_path_factory.mktemp("admission")
    options = {"pool": pool, "locks": new_locks(locks, folder, redis_url), **ADMISSION}
    if broker == "filesystem":
        options |= in_files(folder)
    with make_stage(broker_of(request, broker), redis_url, folder, **options) as made, beside(made, pool=pool):
        made.pool = pool
        yield made


@contextmanager
def beside(stage: Stage, **options) -> Iterator[Worker]:
    """Run one more worker on the queue of the stage."""
    other = start_worker(stage.worker.settings, tasks=stage.worker.tasks, **options)
    try:
        yield other
    finally:
        other.stop()


def messages(stage: Stage, results: list) -> list[int]:
    return [stage.record.count("message", result.id) for result in results]


def test_tasks_of_two_workers_run_one_at_a_time_and_each_is_one_message(stage, limit):
    results = [stage.tasks.early.delay(limit, 0.01) for _ in range(30)]
    assert [result.get(timeout=60) for result in results] == ["ran"] * 30
    assert stage.record.most_at_once(limit) == 1
    assert messages(stage, results) == [1] * 30


def test_a_semaphore_is_used_to_the_full_and_never_more(stage):
    results = [stage.tasks.save_to_storage.delay(str(number), 0.1) for number in range(24)]
    assert len([result.get(timeout=60) for result in results]) == 24
    assert stage.record.most_at_once("save-to-storage-task") <= 4
    assert messages(stage, results) == [1] * 24


def test_free_tasks_pass_those_that_wait_and_the_prefetch_count_comes_back(stage, limit):
    before = prefetch_counts(stage)
    with stage.held(limit):
        waiting = [stage.tasks.early.delay(limit) for _ in range(40)]
        free = [stage.tasks.collect.delay(number) for number in range(10)]
        assert [result.get(timeout=20) for result in free] == list(range(10))
        assert stage.record.count("begin", limit) == 0
    assert [result.get(timeout=60) for result in waiting] == ["ran"] * 40
    assert eventually(lambda: prefetch_counts(stage) == before, within=10), (before, prefetch_counts(stage))


def test_a_free_limit_is_reached_however_many_busy_ones_came_before(stage, limit):
    busy = [f"{limit}-{number}" for number in range(6)]
    with ExitStack() as held:
        for each in busy:
            held.enter_context(stage.held(each))
        waiting = [stage.tasks.early.delay(each) for each in busy[:1] * 6 + busy]
        for each in waiting:
            stage.wait_for("message", each.id)
        assert stage.tasks.early.delay(limit).get(timeout=10) == "ran"
        assert stage.record.count("begin", limit) == 1
    assert [each.get(timeout=30) for each in waiting] == ["ran"] * 12


def prefetch_counts(stage: Stage) -> list[int]:
    with stage.worker.app.connection_for_write() as connection:
        stats = stage.worker.app.control.inspect(timeout=2, connection=connection).stats() or {}
    return sorted(each["prefetch_count"] for each in stats.values())


def test_a_task_revoked_while_it_waits_never_runs_and_leaves_the_line(stage, limit):
    with stage.held(limit):
        revoked, later = stage.tasks.early.delay(limit), stage.tasks.early.delay(limit)
        stage.wait_for("message", revoked.id)
        revoked.revoke()
        with pytest.raises(TaskRevokedError):
            revoked.get(timeout=20)
        # A broker that is polled tells the workers one after the other.
        time.sleep(1 if stage.tasks.app.conf.broker_url == "folder://" else 0)
    assert later.get(timeout=20) == "ran"
    assert stage.record.count("begin", limit) == 1


def test_a_task_that_expires_while_it_waits_never_runs(stage, limit):
    with stage.held(limit):
        expired = stage.tasks.early.apply_async((limit,), expires=0.5)
        with pytest.raises(TaskRevokedError):
            expired.get(timeout=20)
    assert stage.tasks.early.delay(limit).get(timeout=20) == "ran"
    assert stage.record.count("begin", limit) == 1


def test_a_task_that_waits_longer_than_it_may_fails_with_who_holds(stage, limit):
    with stage.held(limit), pytest.raises(LockTimeout, match=limit):
        stage.tasks.patient_for_a_while.delay(limit).get(timeout=20)
    assert stage.record.count("begin", limit) == 0


def test_a_running_task_is_told_that_its_lease_is_lost(stage, limit):
    result = stage.tasks.spinning.delay(limit)
    stage.wait_for("begin", limit)
    assert connect(stage.locks).force_release(limit) == 1
    with pytest.raises(LeaseLost, match=limit):
        result.get(timeout=20)
    assert stage.record.count("lost", limit) == 1


def test_what_a_sender_says_about_leases_counts_for_nothing(stage, limit):
    forged = ["me", [[0, limit, 1, 30.0, 1]]]
    with stage.held(limit):
        result = stage.tasks.early.apply_async((limit,), headers={"tasklocks_leases": forged})
        stage.wait_for("message", result.id)
        assert not eventually(lambda: stage.record.count("begin", limit), within=1)
    assert result.get(timeout=20) == "ran"


def test_locks_in_opposite_orders_do_not_block_each_other(stage, limit):
    one, other = f"{limit}-one", f"{limit}-other"
    results = [stage.tasks.both.delay(*pair) for _ in range(8) for pair in ((one, other), (other, one))]
    assert [result.get(timeout=60) for result in results] == ["ran"] * 16
    assert stage.record.most_at_once(one) == stage.record.most_at_once(other) == 1


def test_a_task_retries_by_its_own_word_and_gets_new_leases(stage, limit):
    assert stage.tasks.failing.delay(limit, limit, 2).get(timeout=30) == 2
    assert stage.record.count("attempt", limit) == 3


def test_a_wrong_call_fails_as_without_admission(stage):
    with pytest.raises(TypeError):
        stage.tasks.app.send_task("tests.apps.limits.early", ("limit", 0.1, "one too many")).get(timeout=20)


def test_inspect_tells_who_holds_who_waits_and_when_their_turn_may_come(stage, limit):
    # What it knows of usual holds.
    assert stage.tasks.early.delay(limit, 0.2).get(timeout=20) == "ran"
    with stage.held(limit):
        results = [stage.tasks.early.delay(limit, 0.2) for _ in range(4)]
        assert eventually(lambda: {row["place"] for row in told(stage, limit)} >= {1, 2}, within=10), told(stage, limit)
        rows = told(stage, limit)
        assert {row["task"] for row in rows} == {each.id for each in results}
        assert all(abs(time.time() - row["since"]) < 60 for row in rows)
        assert all(row["expected_in"] is not None for row in rows if row["place"])
    assert [each.get(timeout=30) for each in results] == ["ran"] * 4


def test_inspect_tells_which_process_uses_a_lease(stage, limit):
    with stage.gate() as gate:
        result = stage.tasks.until.delay(limit, gate)
        [begun] = stage.wait_for("begin", limit)
        if stage.pool != "solo":  # its loop hears nothing while a body runs
            assert told(stage, limit) == [{"limit": limit, "task": result.id, "pid": begun["pid"]}]
    assert result.get(timeout=30)


def told(stage: Stage, limit: str) -> list[dict[str, Any]]:
    answers = stage.worker.app.control.inspect(timeout=1)._request("limits") or {}
    return [row for rows in answers.values() for row in rows if row["limit"] == limit]


@pytest.fixture(params=["redis"])
def broker(request: pytest.FixtureRequest) -> str:
    """The kind of the broker; more of them where it is the broker that matters."""
    return request.param


on_each_broker = pytest.mark.parametrize("broker", BROKERS, indirect=True)


@pytest.fixture
def own(request: pytest.FixtureRequest, broker: str, redis_url: str, tmp_path: Path) -> Callable:
    """Return a function that starts a worker with admission that the test may do harm to."""
    url = broker_of(request, broker)
    conf = {"broker_transport_options": REDELIVERY[broker], **ADMISSION}
    locks = new_locks("redis", tmp_path, redis_url)
    return lambda **options: make_stage(url, redis_url, tmp_path, **{"locks": locks, **conf, **options})


def test_a_killed_process_of_the_pool_frees_its_permit_at_once(own, limit):
    with own() as stage, stage.gate() as gate:
        stage.tasks.until.delay(limit, gate)
        [begun] = stage.wait_for("begin", limit)
        follower = stage.tasks.until.delay(limit, AT_ONCE)
        stage.wait_for("message", follower.id)
        stage.worker.kill_child(begun["pid"])
        # Its lease would last for 30 s.
        stage.wait_for("begin", limit, times=2, within=15)
        assert follower.get(timeout=20)


@pytest.mark.slow
@on_each_broker
def test_all_that_killed_workers_held_runs_and_nothing_twice_at_once(own, broker, limit):
    # Long enough for a busy machine: what is held for half of it is sent again.
    slower = (
        {"broker_transport_options": {**REDELIVERY["redis"], "visibility_timeout": 10}} if broker == "redis" else {}
    )
    with own(**slower) as stage:
        with beside(stage) as other:
            results = [stage.tasks.early.delay(limit, 0.05) for _ in range(40)]
            stage.wait_for("begin", limit, times=3)
            stage.worker.kill()
            other.kill()
        with beside(stage):
            # The one that ran was acknowledged before; perhaps another one's result was not stored yet.
            assert eventually(lambda: sum(result.ready() for result in results) >= 38, within=60)
    assert most_at_once_of_the_living(stage, limit) == 1


def most_at_once_of_the_living(stage: Stage, limit: str) -> int:
    """How many ran at once, without those that were killed while they ran."""
    steps, now, most = [], 0, 0
    open_since = {}
    for fact in sorted(
        stage.record.facts("begin", limit) + stage.record.facts("end", limit), key=lambda fact: fact["at"]
    ):
        if fact["kind"] == "begin":
            open_since[fact["pid"]] = fact["at"]
        else:
            steps += [(open_since[fact["pid"]], 1), (fact["at"], -1)]
    for _, change in sorted(steps):
        now += change
        most = max(most, now)
    return most


@on_each_broker
def test_a_worker_that_stops_gives_back_at_once_what_it_holds(own, limit):
    with own(concurrency=1) as stage, stage.gate() as gate:
        stage.tasks.until.delay(limit, gate)
        stage.wait_for("begin", limit)
        held = [stage.tasks.until.delay(limit, AT_ONCE) for _ in range(3)]
        for each in held:
            stage.wait_for("message", each.id)
        os.kill(stage.worker.pid, signal.SIGTERM)
        stage.worker.wait_for("Warm shutdown")
        with beside(stage, concurrency=1):
            for each in held:
                stage.wait_for("message", each.id, times=2)
            assert stage.record.count("begin", limit) == 1
            Path(gate).touch()
            assert all(each.get(timeout=30) for each in held)
    order = [fact["token"] for fact in stage.record.facts("begin", limit)]
    assert order == sorted(order)
    assert stage.record.most_at_once(limit) == 1


def test_a_lost_connection_to_the_broker_loses_no_task(request, redis_url, tmp_path, limit):
    with RedisServer(tmp_path / "broker") as server:
        conf = {"broker_transport_options": REDELIVERY["redis"], **ADMISSION}
        locks = new_locks("redis", tmp_path, redis_url)
        with make_stage(server.url, redis_url, tmp_path, locks=locks, **conf) as stage:
            with stage.held(limit):
                results = [stage.tasks.early.delay(limit) for _ in range(10)]
                for each in results:
                    stage.wait_for("message", each.id)
                before = prefetch_counts(stage)
                with redis.Redis.from_url(server.url) as client:
                    client.execute_command("CLIENT", "KILL", "TYPE", "normal")
                stage.worker.wait_for("Connection to broker lost")
            assert [each.get(timeout=60) for each in results] == ["ran"] * 10
            assert stage.record.most_at_once(limit) == 1
            assert eventually(lambda: max(prefetch_counts(stage), default=0) <= 8, within=10), before


@pytest.mark.slow
def test_while_the_backend_is_away_nothing_runs_unlocked_and_free_tasks_run_on(own, tmp_path, limit):
    with RedisServer(tmp_path / "locks") as server, own(locks=server.url) as stage:
        assert stage.tasks.early.delay(limit).get(timeout=20) == "ran"
        server.kill()
        results = [stage.tasks.early.delay(limit) for _ in range(6)]
        for number in range(10):
            began = time.monotonic()
            assert stage.tasks.collect.delay(number).get(timeout=20) == number
            assert time.monotonic() - began < 5
        assert stage.record.count("begin", limit) == 1
        server.start()
        assert [each.get(timeout=60) for each in results] == ["ran"] * 6
        assert stage.record.most_at_once(limit) == 1


@on_each_broker
def test_a_free_task_behind_more_than_a_worker_may_hold_runs_before_them(own, limit):
    with own(tasklocks_max_held=3) as stage:
        with stage.held(limit):
            results = [stage.tasks.early.delay(limit) for _ in range(60)]
            assert stage.tasks.collect.delay(7).get(timeout=30) == 7
            assert stage.record.count("begin", limit) == 0
        assert [each.get(timeout=60) for each in results] == ["ran"] * 60
        assert stage.record.most_at_once(limit) == 1


def test_more_than_a_worker_may_hold_goes_back_to_the_queue(own, limit):
    with own(tasklocks_max_held=5) as stage:
        with stage.held(limit):
            results = [stage.tasks.early.delay(limit) for _ in range(12)]
            assert eventually(lambda: sum(count > 1 for count in messages(stage, results)) >= 3, within=20)
        assert [each.get(timeout=60) for each in results] == ["ran"] * 12
        assert stage.record.most_at_once(limit) == 1


@pytest.mark.slow
@pytest.mark.parametrize("broker", ["rabbitmq"], indirect=True)
def test_a_worker_whose_places_are_all_taken_for_long_leaves_permits_and_tasks_to_others(own, limit):
    with own(concurrency=1) as stage, stage.gate() as gate:
        with stage.held(limit):
            results = [stage.tasks.early.delay(limit) for _ in range(12)]
            for each in results:
                stage.wait_for("message", each.id)
            stage.tasks.free_until.delay(gate)
            stage.wait_for("begin", gate)
        with beside(stage, concurrency=1):
            # Four are within what it would have fetched without admission, too.
            assert eventually(lambda: stage.record.count("end", limit) >= 8, within=30)
            Path(gate).touch()
            assert [each.get(timeout=30) for each in results] == ["ran"] * 12
        assert stage.record.most_at_once(limit) == 1
