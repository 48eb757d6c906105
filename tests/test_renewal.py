"""The renewal goes on, whatever is done to it: all leases of a process depend on its one thread."""

from __future__ import annotations

import pytest

from tasklocks import Lease, Lock, clock, connect
from tasklocks.backends import Backend
from tasklocks.renewal import Renewal, renewal
from tests.line import NAME, held, taken
from tests.processes import eventually

TTL = 0.4


@pytest.fixture
def backend(new_backend_url) -> Backend:
    return connect(new_backend_url("memory"))


def test_whoever_fails_when_told_of_a_loss_does_not_end_the_renewal_of_others(backend, caplog):
    def fail(lease: Lease) -> None:
        raise ZeroDivisionError(lease.name)

    lost = Lease(backend, taken(backend, "lost", "other", ttl=TTL), on_lost=fail)
    with Lock(NAME, ttl=TTL, backend=backend).acquire() as lease:
        backend.force_release("other")
        assert eventually(lambda: lost.lost, within=3 * TTL)
        assert not eventually(lambda: lease.lost, within=3 * TTL)
        held(backend)
    assert "ZeroDivisionError" in caplog.text


def test_a_thread_whose_start_was_struck_is_started_by_the_next_lease(backend, monkeypatch):
    class StruckError(Exception):
        pass

    def strike(_thread: object) -> None:
        raise StruckError

    keeper = Renewal()
    lease = Lease(backend, taken(backend, "a", ttl=TTL))
    renewal().remove(lease)
    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", strike)
        with pytest.raises(StruckError):
            keeper.add(lease)
    keeper.add(lease)
    assert not eventually(lambda: lease.lost, within=3 * TTL)
    keeper.remove(lease)
    lease.release()


def test_a_wake_up_that_was_struck_keeps_no_later_lease_from_being_renewed(backend, monkeypatch):
    class StruckError(Exception):
        pass

    def strike(_count: int = 1) -> None:
        raise StruckError

    keeper = Renewal()
    leases = [Lease(backend, taken(backend, name, name, ttl=ttl)) for name, ttl in (("a", 60), ("b", TTL), ("c", TTL))]
    for lease in leases:
        renewal().remove(lease)
    slow, struck, later = leases
    keeper.add(slow)
    assert eventually(lambda: keeper._changed._waiters, within=5)
    with monkeypatch.context() as patch:
        patch.setattr(keeper._changed, "notify", strike)
        with pytest.raises(StruckError):
            keeper.add(struck)
    keeper.remove(struck)
    clock.pause(TTL / 3)
    later.renew()
    keeper.add(later)
    assert not eventually(lambda: later.lost, within=3 * TTL)
    for lease in (slow, later):
        keeper.remove(lease)
    for lease in leases:
        lease.release()
