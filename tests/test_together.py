"""A task with locks and rates: it gets all at once or nothing, and uses up no start while a lock is busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Retry

from tasklocks import Lock, LockBusy, LockTimeout, RateLimit, connect, current_lease, locked, rate_limited
from tasklocks.backends.several import take_in_turn
from tasklocks.leases import held_leases
from tests.local import local_app, register
from tests.test_rate_limited import deliver, free_in, held, mark_of, run


@pytest.fixture(params=["memory", "sqlite", "one after the other"])
def app(request: pytest.FixtureRequest, new_backend_url: Callable[[str], str], monkeypatch) -> Celery:
    """An app that needs no worker; on memory also as with a backend that cannot take all in one step."""
    made = local_app(monkeypatch, new_backend_url("sqlite" if request.param == "sqlite" else "memory"))
    if request.param == "one after the other":
        backend = connect(made.conf.tasklocks_url)
        monkeypatch.setattr(type(backend), "take_all", take_in_turn)
    return made


def is_free(app: Celery, name: str = "lock") -> bool:
    try:
        return Lock(name, backend=connect(app.conf.tasklocks_url)).acquire(blocking=False).release()
    except LockBusy:
        return False


def limited(app: Celery, body: Callable[..., Any] = run, rate: str = "2/m", **options: Any) -> Any:
    return register(app, locked("lock", **options)(rate_limited("a", rate)(rate_limited("b", rate)(body))), name="both")


def test_no_start_is_used_up_while_the_lock_is_busy(app):
    task = limited(app)
    with held(app, "lock"):
        waits = [deliver(app, task) for _ in range(5)]
    assert all(isinstance(wait, Retry) and "slots" not in mark_of(wait) for wait in waits)
    assert deliver(app, task) == "ran"


def test_a_task_whose_start_is_later_leaves_the_lock_free_and_is_sent_again_once_for_exactly_then(app):
    task = limited(app)
    assert deliver(app, task) == "ran"
    waits = [deliver(app, task) for _ in range(2)]
    assert [wait.when for wait in waits] == pytest.approx([30, 60], abs=1)
    assert [[name for name, *_ in mark_of(wait)["slots"]] for wait in waits] == [["a", "b"]] * 2
    assert is_free(app)
    assert not connect(app.conf.tasklocks_url).inspect("lock").waiters


def test_a_task_that_comes_back_takes_the_lock_and_reserves_nothing_again(app):
    task = limited(app, rate="10/s")
    deliver(app, task)
    mark = mark_of(deliver(app, task))
    time.sleep(0.1)
    assert deliver(app, task, mark=mark) == "ran"
    assert free_in(app, "a", "10/s") < 0.11, "the third start was free"


def test_if_a_rate_refuses_the_lock_stays_free_and_no_other_start_is_used(app):
    body = rate_limited("patient", "1/h")(rate_limited("strict", "1/h", max_wait=10)(run))
    task = register(app, locked("lock")(body), name="refused")
    RateLimit("strict", "1/h", backend=connect(app.conf.tasklocks_url)).reserve()
    for _ in range(2):
        assert isinstance(deliver(app, task), LockTimeout)
    assert is_free(app)
    assert free_in(app, "patient", "1/h") == 0


@pytest.mark.parametrize(("on_busy", "outcome"), [("skip", type(None)), ("raise", LockBusy)])
def test_whoever_does_not_wait_for_a_start_leaves_the_lock_free(on_busy, outcome, app):
    task = register(app, locked("lock")(rate_limited("a", "1/h", on_busy=on_busy)(run)), name="hasty")
    assert [type(deliver(app, task)) for _ in range(2)] == [str, outcome]
    assert is_free(app)


def test_a_direct_call_takes_all_or_fails_at_once(app):
    call = locked("lock")(rate_limited("a", "1/h")(run))
    assert call() == "ran"
    with pytest.raises(LockBusy, match="rate limit 'a'"):
        call()
    assert is_free(app)


def test_a_start_that_would_be_late_is_given_back_if_the_lock_is_busy(app):
    task = limited(app, rate="10/s", countdown=20)
    deliver(app, task)
    mark = mark_of(deliver(app, task))
    time.sleep(0.1)
    with held(app, "lock"):
        again = mark_of(deliver(app, task, mark=mark))
    assert "slots" not in again
    assert free_in(app, "a", "10/s") == 0
    assert free_in(app, "b", "10/s") == 0
    assert again["since"] is not None


def test_a_start_that_is_still_good_when_the_task_comes_back_is_kept(app):
    task = limited(app, countdown=0.5)
    deliver(app, task)
    mark = mark_of(deliver(app, task))
    with held(app, "lock"):
        assert mark_of(deliver(app, task, mark=mark))["slots"] == mark["slots"]


def test_a_start_that_somebody_reserved_behind_is_kept(app):
    task = limited(app, countdown=600)
    deliver(app, task)
    mark = mark_of(deliver(app, task))
    reserved = free_in(app, "a", "2/m")
    with held(app, "lock"):
        assert [name for name, *_ in mark_of(deliver(app, task, mark=mark))["slots"]] == ["a"]
    assert free_in(app, "a", "2/m") >= reserved + 29


def test_starts_on_another_backend_are_given_back_if_a_later_one_refuses(app, new_backend_url):
    other = new_backend_url("sqlite")
    strict = rate_limited("strict", "1/h", max_wait=10, backend=other)(run)
    task = register(app, locked("lock")(rate_limited("here", "1/h", max_wait=100)(strict)), name="two")
    RateLimit("strict", "1/h", backend=other).reserve()
    for _ in range(2):
        assert isinstance(deliver(app, task), LockTimeout)
    assert is_free(app)
    assert free_in(app, "here", "1/h") == 0
    connect(other).close()


def test_calls_that_name_their_locks_in_opposite_orders_never_wait_for_each_other(app):
    def body() -> list[str]:
        time.sleep(0.001)
        return [lease.name for lease in held_leases()] + [current_lease().name]

    one = locked("x", on_busy="wait", max_wait=20)(locked("y", on_busy="wait", max_wait=20)(body))
    other = locked("y", on_busy="wait", max_wait=20)(locked("x", on_busy="wait", max_wait=20)(body))
    seen: dict[int, list[list[str]]] = {0: [], 1: []}

    def work(number: int) -> None:
        for _ in range(20):
            seen[number].append((one, other)[number]())

    began = time.monotonic()
    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 15
    assert seen == {0: [["x", "y", "y"]] * 20, 1: [["y", "x", "x"]] * 20}


def test_rates_of_one_name_on_two_backends_are_two_rates(app, new_backend_url):
    other = new_backend_url("sqlite")
    task = register(
        app, locked("lock")(rate_limited("api", "1/m")(rate_limited("api", "1/h", backend=other)(run))), name="same"
    )
    assert deliver(app, task) == "ran"
    again = deliver(app, task)
    assert again.when == pytest.approx(3600, abs=60)
    assert len(mark_of(again)["slots"]) == 2
    assert deliver(app, task, mark=mark_of(again)).when == pytest.approx(3600, abs=60)
    assert free_in(app, "api", "1/m") == pytest.approx(120, abs=5)
    connect(other).close()
