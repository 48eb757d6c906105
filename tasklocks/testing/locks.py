"""What users call, on every backend."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, cast

import pytest

from tasklocks import (
    BackendUnavailable,
    ConfigurationError,
    Lease,
    LeaseLost,
    Lock,
    LockBusy,
    LockTimeout,
    Semaphore,
    current_lease,
)
from tasklocks.backends import Backend
from tasklocks.testing.asking import LONG, NAME, free, held, taken
from tasklocks.testing.forks import eventually, in_threads


def test_a_lock_is_held_inside_its_block_and_free_after_it(backend: Backend) -> None:
    with Lock(NAME, backend=backend) as lease:
        assert held(backend).holders[0].fencing_token == lease.fencing_token
        assert (lease.name, lease.permits, lease.lost) == (NAME, 1, False)
        assert current_lease() is lease
        lease.check()
    assert free(backend)
    assert current_lease() is None


def test_a_lock_is_free_after_an_error_in_its_block(backend: Backend) -> None:
    with pytest.raises(ZeroDivisionError), Lock(NAME, backend=backend):
        _ = 1 / 0
    assert free(backend)


def test_a_released_lease_says_so(backend: Backend) -> None:
    lease = Lock(NAME, backend=backend).acquire()
    assert 0 < lease.expires_in() <= 30
    assert lease.release() is True
    assert lease.release() is False
    assert lease.expires_in() == 0.0
    assert lease.lost is False
    with pytest.raises(LeaseLost, match="released"):
        lease.check()


def test_not_blocking_says_at_once_who_holds_the_limit(backend: Backend) -> None:
    taken(backend, "the-holder")
    with pytest.raises(LockBusy, match=r"'limit'.*held by the-holder since") as caught:
        Lock(NAME, backend=backend).acquire(blocking=False)
    assert not isinstance(caught.value, LockTimeout)
    assert (caught.value.name, caught.value.busy.holders[0].owner) == (NAME, "the-holder")


def test_a_timeout_ends_the_wait_and_leaves_the_line(backend: Backend) -> None:
    taken(backend, "the-holder")
    began = time.monotonic()
    with pytest.raises(LockTimeout, match="the-holder") as caught:
        Lock(NAME, backend=backend).acquire(timeout=0.4)
    assert 0.4 <= time.monotonic() - began < 3
    assert caught.value.busy.holders[0].owner == "the-holder"
    assert backend.inspect(NAME).waiters == ()


def test_a_timeout_of_zero_does_not_wait(backend: Backend) -> None:
    taken(backend, "the-holder")
    with pytest.raises(LockBusy):
        Lock(NAME, backend=backend).acquire(timeout=0)
    assert backend.inspect(NAME).waiters == ()


def test_a_blocked_caller_goes_on_when_the_holder_releases(backend: Backend) -> None:
    lock = Lock(NAME, backend=backend)
    lease = lock.acquire()
    with ThreadPoolExecutor(1) as pool:
        blocked = pool.submit(lock.acquire, timeout=20)
        assert eventually(lambda: backend.inspect(NAME).waiters, within=5)
        assert not blocked.done()
        lease.release()
        with blocked.result(timeout=5) as next_one:
            assert next_one.fencing_token > lease.fencing_token


def test_a_blocked_caller_goes_on_when_a_dead_holder_expires(backend: Backend, ttl: float) -> None:
    taken(backend, "dead", ttl=ttl)
    began = time.monotonic()
    with Lock(NAME, backend=backend).acquire(timeout=20):
        assert time.monotonic() - began < ttl + 2


def test_one_lock_object_serves_many_threads(backend: Backend) -> None:
    lock, inside, most = Lock(NAME, backend=backend), [], []

    def work() -> None:
        for _ in range(10):
            with lock:
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    in_threads(8, work)
    assert most == [1] * 80


def test_one_semaphore_object_serves_many_threads(backend: Backend) -> None:
    semaphore, guard, inside, most = Semaphore(NAME, 3, backend=backend), threading.Lock(), [], []

    def work() -> None:
        for _ in range(5):
            with semaphore:
                with guard:
                    inside.append(1)
                    most.append(len(inside))
                time.sleep(0.05)
                with guard:
                    inside.pop()

    in_threads(8, work)
    assert len(most) == 40
    # How many come together depends on how quickly permits are handed on; never more than there are.
    assert 1 < max(most) <= 3


def test_one_semaphore_object_can_be_held_twice_by_one_thread(backend: Backend) -> None:
    semaphore = Semaphore(NAME, 2, backend=backend)
    with semaphore as outer, semaphore as inner:
        assert outer.fencing_token < inner.fencing_token
        with pytest.raises(LockBusy):
            semaphore.acquire(blocking=False)
        assert current_lease() is inner
    assert backend.inspect(NAME).holders == ()


def test_a_lease_is_renewed_for_longer_than_its_ttl(backend: Backend, ttl: float) -> None:
    with Lock(NAME, ttl=ttl, backend=backend) as lease:
        deadline = time.monotonic() + 2.5 * ttl
        while time.monotonic() < deadline:
            lease.check()
            held(backend)
            time.sleep(ttl / 5)
        assert lease.release() is True


def test_a_ttl_may_be_a_timedelta(backend: Backend) -> None:
    with Lock(NAME, ttl=timedelta(minutes=2), backend=backend) as lease:
        assert 110 < lease.expires_in() <= 120


def test_a_lease_can_be_renewed_by_hand(backend: Backend) -> None:
    with Lock(NAME, ttl=LONG, backend=backend) as lease:
        before = lease.grant.deadline
        time.sleep(0.05)
        lease.renew()
        assert lease.grant.deadline > before


def test_a_forced_out_holder_is_told_within_its_ttl(backend: Backend, ttl: float) -> None:
    told: list[Lease] = []
    grant = taken(backend, "holder", ttl=ttl)
    lease = Lease(backend, grant, on_lost=told.append)
    backend.force_release(NAME)
    assert eventually(lambda: lease.lost, within=ttl + 1)
    with pytest.raises(LeaseLost, match="taken away"):
        lease.check()
    assert lease.release() is False
    assert told == [lease]


def test_a_renewal_by_hand_tells_a_forced_out_holder_at_once(backend: Backend) -> None:
    with Lock(NAME, ttl=LONG, backend=backend) as lease:
        backend.force_release(NAME)
        with pytest.raises(LeaseLost, match=NAME):
            lease.renew()
        assert lease.lost


def test_a_forced_out_holder_does_not_end_the_lease_of_its_successor(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    with Lock(NAME, ttl=LONG, backend=backend) as lease:
        backend.force_release(NAME)
        successor = taken(backend, "successor")
        assert successor.fencing_token > lease.fencing_token
    assert held(backend).holders[0].owner == "successor"


def test_max_hold_frees_the_permit_of_a_wedged_holder(backend: Backend, ttl: float) -> None:
    lease = Lease(backend, taken(backend, "wedged", ttl=ttl), max_hold=2 * ttl)
    time.sleep(1.5 * ttl)
    assert not lease.lost
    held(backend)
    assert eventually(lambda: lease.lost, within=2 * ttl)
    assert eventually(lambda: free(backend), within=2 * ttl)
    with pytest.raises(LeaseLost, match="max_hold"):
        lease.check()


def test_at_least_keeps_the_permit_after_an_early_release(backend: Backend, ttl: float) -> None:
    began = time.monotonic()
    Lease(backend, taken(backend, "quick"), at_least=ttl).release()
    held(backend)
    assert eventually(lambda: free(backend), within=ttl + 2)
    assert time.monotonic() - began >= ttl


def test_at_least_costs_nothing_once_it_is_over(backend: Backend) -> None:
    lease = Lease(backend, taken(backend, "slow"), at_least=0.1)
    time.sleep(0.15)
    lease.release()
    assert free(backend)


def test_a_capacity_that_is_a_function_is_asked_at_each_acquire(backend: Backend) -> None:
    capacity = [1]
    semaphore = Semaphore(NAME, lambda: capacity[0], backend=backend)
    with semaphore:
        with pytest.raises(LockBusy):
            semaphore.acquire(blocking=False)
        capacity[0] = 2
        with semaphore.acquire(blocking=False):
            pass
        capacity[0] = 0
        with pytest.raises(ConfigurationError, match="capacity"):
            semaphore.acquire(blocking=False)


def test_two_capacities_for_one_limit_are_reported_and_the_newer_counts(
    backend: Backend, backend_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"disputed on {backend_url}"
    with Semaphore(name, 2, backend=backend), Semaphore(name, 3, backend=backend):
        assert backend.inspect(name).capacity == 3
    assert [record.getMessage() for record in caplog.records] == [
        f"limit {name!r}: its capacity was 2, now it is 3; the newer one counts"
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda url: Lock("", backend=url), "empty"),
        (lambda url: Lock("two\nlines", backend=url), "control characters"),
        (lambda url: Lock("x" * 10_000, backend=url), "10000 characters"),
        (lambda url: Lock(cast("Any", 7), backend=url), "must be a text"),
        (lambda url: Lock(NAME, ttl=-1, backend=url), "ttl must be more than 0"),
        (lambda url: Lock(NAME, ttl=0.000001, backend=url), "this backend can keep"),
        (lambda url: Semaphore(NAME, 0, backend=url), "capacity must be"),
        (lambda url: Semaphore(NAME, cast("Any", 2.5), backend=url), "capacity must be"),
        (lambda url: Semaphore(NAME, 2, permits=3, backend=url), "can never be free at once"),
        (lambda url: Semaphore(NAME, 2, permits=0, backend=url), "permits must be"),
        (lambda url: Lock(NAME, backend=url).acquire(timeout=-1), "timeout must be"),
    ],
)
def test_a_mistake_is_named(backend_url: str, wrong: Callable[[str], object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        wrong(backend_url)


def test_errors_survive_pickling(backend: Backend) -> None:
    taken(backend, "the-holder")
    with pytest.raises(LockTimeout) as caught:
        Lock(NAME, backend=backend).acquire(timeout=0.05)
    for error in [caught.value, LockBusy("b"), LeaseLost("l"), BackendUnavailable("u"), ConfigurationError("c")]:
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy)) == (type(error), str(error))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.name, copy.busy) == (NAME, caught.value.busy)


def test_a_grant_survives_the_trip_to_another_process(backend: Backend) -> None:
    grant = taken(backend, "a")
    copy = pickle.loads(pickle.dumps(grant))
    assert copy == grant
    assert next(iter(backend.renew([copy]))).fencing_token == grant.fencing_token
