"""A locked task that calls locked tasks: each limit is taken once, shared only if told, never waited for in vain."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tasklocks import LeaseLost, Lock, LockBusy, LockTimeout, Semaphore, current_lease, locked
from tests.eager.calls import AT_ONCE, free, reporter
from tests.local import as_in_a_worker, register

pytestmark = pytest.mark.timeout(30)  # a hang is what these tests are about


def test_a_task_that_calls_another_holds_both_limits_inside_and_none_after(app, backend):
    seen = []

    @locked("inner")
    def inner() -> str:
        seen.append((free(backend, "outer"), free(backend, "inner"), current_lease().name))
        return "inner ran"

    @locked("outer")
    def outer() -> str:
        answer = register(app, inner, name="inner")()
        seen.append((free(backend, "outer"), free(backend, "inner"), current_lease().name))
        return f"{answer}, outer ran"

    assert register(app, outer, name="outer").apply().get() == "inner ran, outer ran"
    assert seen == [(False, False, "inner"), (False, True, "outer")]
    assert free(backend, "outer")
    assert current_lease() is None


def test_a_call_that_needs_what_its_caller_holds_fails_at_once_and_says_so(app, backend):
    @locked("report", max_wait=60)
    def report(depth: int) -> int:
        return depth if depth == 0 else task(depth - 1)

    task = register(app, report, name="report")
    for call in (task, lambda depth: task.apply((depth,)).get()):
        began = time.monotonic()
        with pytest.raises(LockBusy, match=r"held by the very caller .* reentrant=True"):
            call(1)
        assert time.monotonic() - began < AT_ONCE
        assert free(backend)


def test_a_call_that_is_to_be_skipped_is_skipped_also_if_its_caller_holds_the_limit(app, backend):
    ran = []

    @locked("report", on_busy="skip")
    def report() -> str:
        ran.append("report")
        return "ran"

    task = register(app, report, name="report")
    with Lock("report", backend=backend):
        assert [task(), task.apply().get()] == [None, None]
    assert not ran
    assert task() == "ran"


def test_a_reentrant_call_shares_the_lease_of_its_caller(app, backend):
    leases = []

    @locked("report", reentrant=True)
    def report(depth: int) -> str:
        leases.append(current_lease())
        answer = "deep" if depth == 0 else task(depth - 1)
        assert not free(backend)  # the inner call's end did not end the lease
        return answer

    task = register(app, report, name="report")
    assert task(5) == "deep"
    assert len(leases) == 6
    assert len(set(leases)) == 1
    assert free(backend)


def test_a_reentrant_call_does_not_run_under_a_lost_lease(app, backend, caplog):
    @locked("report", reentrant=True)
    def report(inner: bool) -> list[int]:
        if not inner:
            backend.force_release("report")
            with pytest.raises(LeaseLost):
                current_lease().renew()
            return task(True)
        return [holder.fencing_token for holder in backend.inspect("report").holders]

    task = register(app, report, name="report")
    assert len(task(False)) == 1  # a lease of its own
    assert "is lost: " in caplog.text


def test_a_nested_call_takes_a_permit_of_its_own_if_there_is_one(app, backend):
    held = []

    @locked("report", 2)
    def report(depth: int) -> None:
        held.append(len(backend.inspect("report").holders))
        if depth:
            task(depth - 1)

    task = register(app, report, name="report")
    task(1)
    assert held == [1, 2]
    with pytest.raises(LockBusy, match="held by the very caller"):
        task(2)
    assert free(backend)


def test_a_nested_call_waits_for_a_permit_that_a_stranger_has(app, backend):
    @locked("report", 2, max_wait=0.2)
    def report(depth: int) -> None:
        if depth:
            task(depth - 1)

    task = register(app, report, name="report")
    stranger = Semaphore("report", 2, backend=backend).acquire()
    with pytest.raises(LockTimeout):
        task(1)
    stranger.release()
    assert free(backend)


def test_an_item_of_a_workers_map_waits_for_its_turn(app, backend):
    runs: list[Any] = []
    task = reporter(app, runs)
    lease = Lock("report", backend=backend).acquire()
    timer = threading.Timer(0.2, lease.release)
    timer.start()
    as_in_a_worker(app, app.tasks["celery.map"], task.s(), ["monday", "friday"])
    timer.join()
    assert runs == ["monday", "friday"]


@pytest.mark.usefixtures("busy")
def test_a_task_that_an_item_of_a_workers_map_calls_does_not_wait_unless_told(app):
    inner = reporter(app, [])

    @locked("outer")
    def outer(day: str) -> str:
        with pytest.raises(LockBusy):
            inner(day)
        seen.append(day)

    seen: list[str] = []
    items = register(app, outer, name="outer").s(), ["monday", "friday"]
    as_in_a_worker(app, app.tasks["celery.map"], *items)
    assert seen == ["monday", "friday"]
