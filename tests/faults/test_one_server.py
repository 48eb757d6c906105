"""A server that ends, freezes or is cut off: no two live leases beyond capacity, and everybody goes on alone."""

from __future__ import annotations

import threading
import time

import pytest

from tasklocks import BackendUnavailable, LeaseLost, Lock
from tests.faults.hammered import hammered
from tests.faults.using import answers, frozen, waiter
from tests.line import NAME, taken
from tests.processes import eventually
from tests.relay import relayed


def _back(store, backend) -> None:
    """A store whose clients try again by themselves has to answer the very next step."""
    assert not store.notices or eventually(lambda: answers(backend), within=20)


# Ended.


def test_a_lease_survives_a_restart_of_the_server(store, server, opened):
    backend = opened(server.url)
    with Lock(NAME, ttl=10, backend=backend) as lease:
        server.restart()
        _back(store, backend)
        lease.renew()
        assert backend.inspect(NAME).holders[0].fencing_token == lease.fencing_token
    assert backend.inspect(NAME).holders == ()
    assert taken(backend, "later").fencing_token > lease.fencing_token


def test_who_waits_over_a_restart_gets_the_lease_by_itself(store, server, opened):
    holder, backend = opened(server.url), opened(server.url)
    taken(holder, "holder")
    waiting, got = waiter(backend)
    server.restart()
    _back(store, holder)
    assert holder.release(NAME, "holder")
    waiting.join(15)
    assert len(got) == 1


@pytest.mark.parametrize("kind", ["redis", "mongodb", "etcd"], indirect=True)  # ZooKeeper knows no farewell
def test_nobody_overlaps_over_a_restart(store, server, tmp_path):
    hammered(server.url, store.ttl, tmp_path, server.restart)


def test_nobody_overlaps_when_the_server_is_killed(store, server, tmp_path):
    def killed() -> None:
        server.kill()
        server.start()

    hammered(server.url, store.ttl, tmp_path, killed)


# Frozen.


def test_nobody_overlaps_when_the_server_freezes_for_longer_than_a_lease(store, server, tmp_path):
    hammered(server.url, store.ttl, tmp_path, lambda: frozen(server, 2.5 * store.ttl))


def test_a_holder_is_told_of_a_loss_while_the_server_is_frozen(store, server, opened):
    backend = opened(store.giving_up(server.url, 1))
    lease = Lock(NAME, ttl=store.ttl, backend=backend).acquire()
    server.pause()
    try:
        time.sleep(1.2 * store.ttl)
        assert lease.lost
        with pytest.raises(LeaseLost):
            lease.check()
        with pytest.raises(BackendUnavailable, match=store.silent):
            backend.inspect(NAME)
    finally:
        server.resume()
    _back(store, backend)
    # A renewal that was under way when the server froze may have kept the permit for one ttl more.
    with Lock(NAME, backend=backend).acquire(timeout=10) as successor:
        assert successor.fencing_token > lease.fencing_token
        assert lease.release() is False
        assert backend.inspect(NAME).holders[0].owner == successor.owner


# Cut off.


def test_nobody_overlaps_when_connections_are_cut_again_and_again(store, server, tmp_path):
    with relayed(server.url) as (relay, url):

        def cut() -> None:
            for _ in range(10):
                time.sleep(0.3)
                relay.cut()

        hammered(url, store.ttl, tmp_path, cut)


def test_nobody_overlaps_when_answers_are_late(store, server, tmp_path):
    with relayed(server.url) as (relay, url):

        def late() -> None:
            relay.delay = 0.3 * store.ttl
            time.sleep(3 * store.ttl)
            relay.delay = 0.0

        hammered(url, store.ttl, tmp_path, late)


@pytest.mark.parametrize("kind", ["redis", "mongodb", "etcd"], indirect=True)  # ZooKeeper's session comes back first
def test_a_connection_cut_between_two_steps_is_not_noticed(store, server, opened):
    with relayed(server.url) as (relay, url):
        backend = opened(url)
        grant = taken(backend, "a")
        for step in (
            lambda: backend.renew([grant])[0],
            lambda: backend.inspect(NAME).holders,
            lambda: backend.release(NAME, "a"),
        ):
            relay.cut()
            assert step()
        backend.close()


def test_who_holds_and_who_waits_over_a_cut_connection_go_on(store, server, opened):
    near = opened(server.url)
    taken(near, "holder")
    with relayed(server.url) as (relay, url):
        far = opened(url)
        grant = taken(far, "other", "held")
        waiting, got = waiter(far)
        relay.cut()
        near.release(NAME, "holder")
        waiting.join(15)
        assert len(got) == 1
        assert far.renew([grant])[0].fencing_token == grant.fencing_token
        far.close()


def test_late_steps_of_a_holder_that_was_cut_off_touch_nobody(store, server, opened):
    near = opened(server.url)
    with relayed(server.url) as (relay, url):
        far = opened(store.giving_up(url, 3))
        lease = Lock(NAME, ttl=store.ttl, backend=far).acquire()
        relay.hold()
        with Lock(NAME, ttl=store.ttl, backend=near).acquire(timeout=store.ttl + 5) as successor:
            assert lease.lost
            late = threading.Thread(target=lease.release)
            late.start()
            time.sleep(0.2)
            relay.let_go()
            late.join()
            assert successor.fencing_token > lease.fencing_token
            assert near.inspect(NAME).holders[0].owner == successor.owner
            successor.renew()
        far.close()
