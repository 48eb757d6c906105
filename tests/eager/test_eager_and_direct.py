"""Without a worker (`.apply()`, `task_always_eager`, a plain call) nothing recurses and nothing hangs.

A busy limit is waited for in place, up to `max_wait`, which is 0 unless said; then the call fails with `LockBusy`.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery import Task, chain, chord, group

from tasklocks import (
    BackendUnavailable,
    Lock,
    LockBusy,
    LockedTask,
    LockTimeout,
    connect,
    current_lease,
    locked,
)
from tests.eager.calls import AT_ONCE, free, reporter
from tests.local import register

pytestmark = pytest.mark.timeout(30)  # a hang is what these tests are about


CALLS = {
    "call": lambda task: task("monday"),
    "apply": lambda task: task.apply(("monday",)).get(),
    "delay": lambda task: task.delay("monday").get(),
    "apply_async": lambda task: task.apply_async(("monday",), countdown=60).get(),
    "signature": lambda task: task.s("monday")(),
    "signature.apply": lambda task: task.s("monday").apply().get(),
}
BATCHES = {
    "map": lambda task: task.map(["monday"]).apply().get(),
    "map.delay": lambda task: task.map(["monday"]).delay().get(),
    "starmap": lambda task: task.starmap([("monday",)]).apply().get(),
    "chunks": lambda task: task.chunks([("monday",)], 1).group().apply().get()[0],
    "chunks.delay": lambda task: task.chunks([("monday",)], 1).apply_async().get()[0],
    "group": lambda task: group(task.s("monday")).apply().get(),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
each_batch = pytest.mark.parametrize("call", BATCHES.values(), ids=BATCHES)
each = pytest.mark.parametrize("call", [*CALLS.values(), *BATCHES.values()], ids=[*CALLS, *BATCHES])


@each_call
def test_a_free_limit_is_held_while_the_body_runs_and_not_longer(app, backend, call):
    runs: list[str] = []
    assert call(reporter(app, runs)) == "report of monday under report"
    assert runs == ["monday"]
    assert free(backend)
    assert current_lease() is None


@each_batch
def test_a_free_limit_is_held_for_each_item_of_a_batch(app, backend, call):
    runs: list[str] = []
    assert call(reporter(app, runs)) == ["report of monday under report"]
    assert free(backend)


@pytest.mark.usefixtures("busy")
@each
@pytest.mark.parametrize("on_busy", ["retry", "wait", "raise"])
def test_a_busy_limit_fails_at_once_and_the_body_does_not_run(app, call, on_busy):
    runs: list[str] = []
    task = reporter(app, runs, on_busy=on_busy)
    began = time.monotonic()
    with pytest.raises(LockBusy, match=r"report.*: limit 'report' \(capacity 1\) is held by .* since"):
        call(task)
    assert time.monotonic() - began < AT_ONCE
    assert runs == []


@pytest.mark.usefixtures("busy")
@each_call
def test_a_busy_limit_to_be_skipped_ends_without_a_result(app, call):
    runs: list[str] = []
    assert call(reporter(app, runs, on_busy="skip")) is None
    assert runs == []


@pytest.mark.usefixtures("busy")
def test_a_skip_leaves_a_place_in_the_result_of_a_map(app):
    assert reporter(app, [], on_busy="skip").map(["monday", "friday"]).apply().get() == [None, None]


@pytest.mark.usefixtures("busy")
@each
def test_a_busy_limit_is_waited_for_up_to_max_wait(app, backend, call):
    runs: list[str] = []
    task = reporter(app, runs, max_wait=0.3)
    began = time.monotonic()
    with pytest.raises(LockTimeout, match="report"):
        call(task)
    assert 0.3 <= time.monotonic() - began < 0.3 + AT_ONCE
    assert runs == []
    assert backend.inspect("report").waiters == ()


@each_call
def test_a_waiting_call_runs_as_soon_as_the_limit_is_free(app, backend, call):
    runs: list[str] = []
    lease = Lock("report", backend=backend).acquire()
    timer = threading.Timer(0.2, lease.release)
    began = time.monotonic()
    timer.start()
    assert call(reporter(app, runs, max_wait=20)) == "report of monday under report"
    assert 0.2 <= time.monotonic() - began < 0.2 + AT_ONCE
    timer.join()


@pytest.mark.usefixtures("busy")
def test_an_eager_failure_is_a_result_or_rises_as_the_app_says(app):
    task = reporter(app, [])
    result = task.delay()
    assert (result.state, type(result.result)) == ("FAILURE", LockBusy)
    app.conf.task_eager_propagates = True
    with pytest.raises(LockBusy):
        task.delay()


def test_an_error_of_the_body_rises_and_frees_the_limit(app, backend):
    @locked("report")
    def report() -> None:
        raise ZeroDivisionError("the body's own")

    task = register(app, report, name="report")
    for call in (task, lambda: task.apply().get(), lambda: task.delay().get()):
        with pytest.raises(ZeroDivisionError, match="the body's own"):
            call()
        assert free(backend)


@pytest.mark.parametrize("base", [Task, LockedTask])
def test_a_tasks_own_retries_run_again_each_under_a_lease_of_its_own(app, backend, base):
    tokens: list[int] = []

    def report(self: Any) -> int:
        tokens.append(current_lease().fencing_token)
        if len(tokens) < 3:
            raise self.retry(countdown=0, exc=ValueError("try again"))
        return self.request.retries

    options = {"lock_name": "report"} if base is LockedTask else {}
    body = report if base is LockedTask else locked("report")(report)
    task = register(app, body, name="report", bind=True, base=base, max_retries=5, **options)
    assert task.apply().get() == 2
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 3
    assert free(backend)


def test_automatic_retries_count_the_bodys_errors_only(app, backend):
    runs: list[int] = []

    @locked("report")
    def report() -> None:
        runs.append(1)
        raise ValueError("the body's own")

    options = {"autoretry_for": (ValueError,), "retry_kwargs": {"max_retries": 2, "countdown": 0}}
    with pytest.raises(ValueError, match="the body's own"):
        register(app, report, name="report", **options).apply().get()
    assert len(runs) == 3
    assert free(backend)


@pytest.mark.usefixtures("busy")
def test_a_busy_limit_does_not_use_up_automatic_retries_in_a_recursion(app):
    runs: list[int] = []

    @locked("report")
    def report() -> None:
        runs.append(1)

    options = {"autoretry_for": (ValueError,), "retry_kwargs": {"max_retries": None, "countdown": 0}}
    with pytest.raises(LockBusy):
        register(app, report, name="report", **options).apply().get()
    assert runs == []


def test_a_chain_goes_on_and_a_chord_ends_around_locked_tasks(app, backend):
    @locked("add-{x}")
    def add(x: int, y: int) -> int:
        return x + y

    def sum_of(numbers: list[int]) -> int:
        return sum(numbers)

    task, total = register(app, add, name="add"), register(app, sum_of, name="total")
    assert chain(task.s(1, 2), task.s(3), task.s(4)).apply().get() == 10
    assert chord([task.s(1, n) for n in range(3)])(total.s()).get() == 6
    assert free(backend, "add-1")


def test_a_map_takes_the_limit_once_an_item(app):
    tokens: list[int] = []

    @locked("item")
    def item(x: int) -> int:
        tokens.append(current_lease().fencing_token)
        return x * x

    task = register(app, item, name="item")
    assert task.map([1, 2, 3]).apply().get() == [1, 4, 9]
    assert task.starmap([(4,), (5,)]).apply().get() == [16, 25]
    assert len(set(tokens)) == 5
    assert tokens == sorted(tokens)


def test_calls_from_many_threads_take_turns(app):
    inside: list[int] = []
    most: list[int] = []

    @locked("report", max_wait=20)
    def report() -> None:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.001)
        inside.pop()

    task = register(app, report, name="report")
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(call) for call in [task, task.apply] * 20]:
            done.result(timeout=20)
    assert most == [1] * 40


def test_several_limits_are_taken_together_and_given_back_if_one_is_busy(app, backend):
    runs: list[int] = []

    @locked("first")
    @locked("second-{n}")
    def report(n: int) -> None:
        runs.append(n)
        assert not free(backend, "first")
        assert not free(backend, f"second-{n}")

    task = register(app, report, name="report")
    with Lock("second-1", backend=backend), pytest.raises(LockBusy, match="second-1"):
        task(1)
    assert free(backend, "first")
    task(2)
    assert runs == [2]


@each_call
@pytest.mark.parametrize("on_backend_error", ["retry", "raise"])
def test_a_backend_that_is_down_fails_the_call_and_the_body_does_not_run(app, tmp_path, call, on_backend_error):
    runs: list[str] = []
    app.conf.tasklocks_url = f"sqlite:///{tmp_path}/no/such/folder/locks.db"
    task = reporter(app, runs, on_backend_error=on_backend_error)
    began = time.monotonic()
    with pytest.raises(BackendUnavailable):
        call(task)
    assert time.monotonic() - began < AT_ONCE
    assert runs == []


def test_a_plain_function_is_locked_too(new_backend_url):
    url = new_backend_url("memory")

    @locked("report-{day}", backend=url)
    def report(day: str) -> int:
        return len(connect(url).inspect(f"report-{day}").holders)

    assert report("monday") == 1
    with Lock("report-monday", backend=url):
        with pytest.raises(LockBusy, match="test_eager_and_direct"):
            report("monday")
        assert report("friday") == 1
