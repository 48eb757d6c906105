"""A lease is renewed while it is held, by one thread for all; its holder is told when it is lost, and stays told."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasklocks import (
    BackendUnavailable,
    Lease,
    LeaseLost,
    Lock,
    Semaphore,
    connect,
    current_lease,
    locked,
)
from tasklocks.backends import Backend
from tasklocks.backends.memory import MemoryBackend
from tasklocks.leases import held_leases
from tasklocks.renewal import renewal
from tasklocks.types import Grant
from tests.line import free, held, taken
from tests.local import as_in_a_worker, local_app, register
from tests.processes import eventually

TTL = 0.4


@pytest.fixture
def backend(new_backend_url: Callable[[str], str]) -> Backend:
    """An empty backend of this process."""
    return connect(new_backend_url("memory"))


class Flaky(MemoryBackend):
    """A real backend that can be cut off."""

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.refused = 0

    def renew(self, grants: list[Grant]) -> list[Grant | None]:
        self._reach()
        return list(super().renew(grants))

    def release(self, name: str, owner: str, keep: float = 0.0) -> bool:
        self._reach()
        return super().release(name, owner, keep)

    def _reach(self) -> None:
        if self.down:
            self.refused += 1
            raise BackendUnavailable("a test cut it off")


def test_a_lease_shows_its_limit_and_its_state(backend):
    lease = Lock("report", backend=backend).acquire()
    assert repr(lease).startswith(f"<Lease 'report' token={lease.fencing_token} ")
    assert repr(lease).endswith(" s left>")
    lease.release()
    assert repr(lease).endswith(" released>")
    lost = Lock("report", backend=backend).acquire()
    lost.end("a test says so")
    assert repr(lost).endswith(" lost>")
    lost.release()


def test_a_lease_is_a_context_manager_itself(backend):
    with Lock("report", backend=backend).acquire(blocking=False) as lease:
        assert current_lease() is lease
        held(backend, "report")
    assert free(backend, "report")
    assert current_lease() is None


def test_a_lease_that_was_released_inside_its_block_ends_quietly(backend, caplog):
    with Lock("report", backend=backend) as lease:
        assert lease.release() is True
        successor = taken(backend, "successor", "report")
    assert caplog.records == []
    assert held(backend, "report").holders[0].fencing_token == successor.fencing_token


def test_blocks_may_be_nested_and_the_innermost_lease_is_current(backend):
    with Lock("a", backend=backend) as a:
        with Lock("b", backend=backend) as b:
            assert held_leases() == (a, b)
            assert current_lease() is b
        assert current_lease() is a
    assert held_leases() == ()


def test_blocks_may_end_in_another_order(backend):
    a, b = Lock("a", backend=backend).acquire(), Lock("b", backend=backend).acquire()
    a.__enter__()
    b.__enter__()
    a.__exit__(None, None, None)
    assert (current_lease(), free(backend, "a")) == (b, True)
    b.__exit__(None, None, None)
    assert held_leases() == ()


def test_one_thread_renews_a_thousand_leases_until_they_are_released(backend):
    before = len(renewal())
    leases = [Lock(f"limit-{n}", ttl=TTL, backend=backend).acquire() for n in range(1000)]
    time.sleep(3 * TTL)
    assert [thread.name for thread in threading.enumerate()].count("tasklocks-renewal") == 1
    assert [lease.name for lease in leases if lease.lost] == []
    assert len(renewal()) >= 1000
    assert all(lease.release() for lease in leases)
    assert len(renewal()) <= before


def test_leases_with_very_different_times_are_each_renewed_in_time(backend):
    leases = [Lock(f"limit-{ttl}", ttl=ttl, backend=backend).acquire() for ttl in (60, 0.15, 5, 0.3, 0.6)]
    time.sleep(1.2)
    assert [lease.name for lease in leases if lease.lost] == []
    for lease in leases:
        lease.release()


def test_a_lease_that_comes_while_the_thread_sleeps_long_is_renewed_in_time(backend):
    with Lock("long", ttl=60, backend=backend):
        time.sleep(0.1)
        with Lock("short", ttl=0.2, backend=backend) as short:
            time.sleep(0.7)
            assert not short.lost


def test_renewal_survives_a_backend_that_does_not_answer_for_a_while(caplog):
    backend = Flaky()
    with Lock("report", ttl=1, backend=backend) as lease:
        backend.down = True
        assert eventually(lambda: backend.refused >= 2, within=5)
        backend.down = False
        time.sleep(1.5)
        lease.check()
    assert "renewal of 1 leases failed, trying again" in caplog.text


def test_a_lease_that_could_not_be_renewed_in_time_is_lost_at_its_own_deadline(caplog):
    backend, told = Flaky(), []
    lease = Lease(backend, taken(backend, "me", "report", ttl=TTL), on_lost=told.append)
    backend.down = True
    assert not lease.lost
    deadline = lease.grant.deadline
    assert eventually(lambda: told, within=5)
    assert lease.grant.deadline == deadline
    with pytest.raises(LeaseLost, match="its time ran out before it could be renewed"):
        lease.check()
    backend.down = False
    assert free(backend, "report")
    assert lease.release() is False
    assert told == [lease]


def test_the_deadline_counts_even_if_nobody_could_tell(backend):
    lease = Lease(backend, taken(backend, "me", "report", ttl=0.2))
    renewal().remove(lease)  # as in a process whose renewal is frozen
    time.sleep(0.25)
    assert (lease.lost, lease.expires_in()) == (True, 0.0)
    with pytest.raises(LeaseLost, match="its time ran out"):
        lease.check()
    assert lease.release() is False


def test_a_lost_lease_stays_lost_after_its_release(backend, caplog):
    with Lock("report", ttl=0.2, backend=backend) as lease:
        renewal().remove(lease)
        time.sleep(0.25)
    assert lease.lost
    with pytest.raises(LeaseLost, match="is lost"):
        lease.check()
    assert "is lost: its time ran out" in caplog.text


def test_a_released_lease_is_not_lost_when_its_time_is_over(backend):
    lease = Lock("report", ttl=0.2, backend=backend).acquire()
    lease.release()
    time.sleep(0.25)
    assert lease.lost is False


def test_a_lost_lease_is_not_renewed_any_more(backend, caplog):
    before = len(renewal())
    lease = Lock("report", ttl=TTL, backend=backend).acquire()
    backend.force_release("report")
    with pytest.raises(LeaseLost):
        lease.renew()
    assert len(renewal()) <= before
    successor = taken(backend, "successor", "report")
    with pytest.raises(LeaseLost):
        lease.renew()
    assert lease.release() is False
    assert held(backend, "report").holders[0].fencing_token == successor.fencing_token


def test_a_release_that_cannot_be_sent_leaves_the_rest_to_the_ttl():
    backend = Flaky()
    lease = Lock("report", ttl=TTL, backend=backend).acquire()
    backend.down = True
    with pytest.raises(BackendUnavailable):
        lease.release()
    backend.down = False
    held(backend, "report")
    assert eventually(lambda: free(backend, "report"), within=TTL + 2)


def test_a_block_whose_work_is_done_does_not_fail_because_its_release_cannot_be_sent(caplog):
    backend = Flaky()
    with Lock("report", ttl=TTL, backend=backend):
        backend.down = True
    assert "ends by itself within" in caplog.text
    backend.down = False
    assert eventually(lambda: free(backend, "report"), within=TTL + 2)


def loser(backend: Backend, on_lost: str) -> Callable[[], str]:
    """A body that loses its lease and does not look; it would go on for long."""

    @locked("report", ttl=TTL, on_lost=on_lost, backend=backend)
    def body() -> str:
        lease = current_lease()
        backend.force_release("report")
        return "not told" if eventually(lambda: lease.lost, within=5) else "not lost"

    return body


def test_a_loss_rises_inside_a_workers_task_or_only_sets_the_flag_as_on_lost_says(backend, monkeypatch, caplog):
    app = local_app(monkeypatch, "memory://")
    for on_lost, expected in [("raise", LeaseLost), ("flag", str)]:
        task = register(app, loser(backend, on_lost), name=on_lost)
        assert isinstance(as_in_a_worker(app, task), expected)


def test_a_loss_never_rises_in_plain_code_whatever_on_lost_says(backend, caplog):
    for on_lost in ("raise", "flag"):
        assert loser(backend, on_lost)() == "not told"


def test_at_least_keeps_the_permits_from_the_start_and_not_from_the_end(backend):
    lease = Lease(backend, taken(backend, "me", "report"), at_least=0.6)
    time.sleep(0.3)
    lease.release()
    assert 0 < held(backend, "report").holders[0].expires_in <= 0.3
    assert eventually(lambda: free(backend, "report"), within=5)


def test_a_kept_permit_is_nobodys_lease(backend):
    before = len(renewal())
    lease = Lease(backend, taken(backend, "me", "report"), at_least=5)
    lease.release()
    assert len(renewal()) <= before
    assert (lease.lost, lease.expires_in(), lease.release()) == (False, 0.0, False)
    backend.force_release("report")
    assert free(backend, "report")


def test_max_hold_is_over_although_the_lease_was_renewed(backend, caplog):
    told = []
    grant = taken(backend, "me", "report", ttl=0.2)
    lease = Lease(backend, grant, max_hold=0.5, on_lost=told.append)
    time.sleep(0.35)
    assert not lease.lost
    assert eventually(lambda: told, within=2)
    assert "longer than max_hold" in caplog.text
    assert eventually(lambda: free(backend, "report"), within=2)


def test_a_thread_has_no_lease_of_another_unless_the_context_is_copied(backend):
    with Lock("report", backend=backend) as lease, ThreadPoolExecutor(1) as pool:
        assert pool.submit(current_lease).result() is None
        assert pool.submit(contextvars.copy_context().run, current_lease).result() is lease


def test_a_lease_may_be_used_and_released_in_another_thread(backend):
    lease = Lock("report", backend=backend).acquire()

    def use() -> bool:
        lease.check()
        lease.renew()
        return lease.release()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(use).result() is True
    assert free(backend, "report")


def test_of_many_threads_one_releases(backend):
    for _ in range(50):
        lease = Lock("report", backend=backend).acquire()
        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(lambda _, lease=lease: lease.release(), range(4))) >= 1
        assert free(backend, "report")


def test_leases_of_many_threads_do_not_mix(backend):
    def work(n: int) -> bool:
        with Lock(f"limit-{n}", backend=backend) as outer, Semaphore("shared", 8, backend=backend) as inner:
            time.sleep(0.01)
            return held_leases() == (outer, inner)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(40)))
