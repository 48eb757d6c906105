"""A backend that keeps silent, without an error, is not waited for longer than the lease lasts."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tasklocks import BackendUnavailable, Lease, Lock, clock, connect
from tasklocks.backends import Backend
from tests.line import taken
from tests.processes import eventually, free_port
from tests.relay import Relay


@pytest.fixture
def relay(redis_database: str) -> Iterator[Relay]:
    with Relay(urlsplit(redis_database).port) as made:
        yield made


@pytest.fixture
def backend(relay: Relay, redis_database: str) -> Iterator[Backend]:
    """Redis behind the relay; it gives up a call only after seconds."""
    parts = urlsplit(redis_database)
    made = connect(parts._replace(netloc=f"127.0.0.1:{relay.port}").geturl())
    yield made
    made.close()


def test_a_holder_whose_backend_keeps_silent_is_told_at_its_deadline(relay, backend, caplog):
    caplog.set_level("CRITICAL", logger="tasklocks")
    told = {}
    leases = [
        Lease(
            backend, taken(backend, "me", name, ttl=ttl), on_lost=lambda lease: told.update({lease.name: clock.now()})
        )
        for name, ttl in (("brief", 0.9), ("longer", 1.2), ("longest", 1.5))
    ]
    relay.hold()
    try:
        assert eventually(lambda: len(told) == len(leases), within=20)
    finally:
        relay.let_go()
    delays = [told[lease.name] - lease.grant.deadline for lease in leases]
    assert all(0 <= delay < 0.5 for delay in delays), delays
    assert list(told) == ["brief", "longer", "longest"]


def test_a_holder_whose_backend_answers_after_a_silence_that_is_short_enough_keeps_its_lease(relay, backend, caplog):
    caplog.set_level("CRITICAL", logger="tasklocks")
    told = []
    lease = Lease(backend, taken(backend, "me", "report", ttl=2.4), on_lost=told.append)
    relay.hold()
    clock.pause(1.6)
    relay.let_go()
    assert eventually(lambda: lease.expires_in() > 1.6, within=2)
    clock.pause(2.5)
    assert not told
    lease.check()
    assert lease.release()


@pytest.mark.parametrize("scheme", ["redis", "mongodb", "etcd", "zookeeper"])
def test_an_acquire_waits_once_for_a_backend_that_is_not_there_not_for_each_of_its_steps(scheme):
    backend = connect(f"{scheme}://127.0.0.1:{free_port()}")
    began = clock.now()
    with pytest.raises(BackendUnavailable):
        Lock("report", backend=backend).acquire(timeout=0.1)
    # The longest time-out of a client is 5 s.
    assert clock.now() - began < 9
    backend.close()
