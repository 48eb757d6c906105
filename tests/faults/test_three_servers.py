"""Three servers that lose the one that leads: leases outlive it, or the tokens tell who came later."""

from __future__ import annotations

import time

import pytest

from tasklocks import BackendUnavailable
from tests.faults.hammered import hammered
from tests.faults.stores import with_option
from tests.faults.using import answers, frozen, grows_not, open_at, used
from tests.line import LONG, Line, taken
from tests.line import NAME as LIMIT
from tests.processes import eventually

STALE_LEADER = (
    "etcd issue 15247, seen now and then on etcd 3.4.23: a leader that wakes from a freeze ends all leases, also those"
    " that were kept alive meanwhile, and their holders hear of it at the next renewal; docs/backends.md says so"
)
# Those in which a majority has to agree on each step.
AGREEING = pytest.mark.parametrize("kind", ["mongodb", "etcd", "zookeeper"], indirect=True)


def test_nobody_overlaps_when_the_leader_is_killed(store, trio, tmp_path):
    hammered(trio.url, store.ttl, tmp_path, lambda: trio.leader().kill(), forgets=store.forgets)


def test_nobody_overlaps_when_the_leader_freezes_and_comes_back(request, kind, store, trio, tmp_path):
    if kind == "etcd":
        request.applymarker(pytest.mark.xfail(reason=STALE_LEADER, strict=False))
    hammered(trio.url, store.ttl, tmp_path, lambda: frozen(trio.leader(), 6), forgets=store.forgets)


@AGREEING
def test_leases_places_and_tokens_survive_the_death_of_the_leader(store, trio, opened):
    backend = opened(with_option(trio.url, store.election))
    grant = taken(backend, "holder", ttl=LONG)
    with Line(backend) as line:
        waiting = line.join("waiter", keep=LONG)
        trio.leader().kill()
        assert not store.notices or eventually(lambda: answers(backend), within=30)
        assert backend.renew([grant])[0].fencing_token == grant.fencing_token
        state = backend.inspect(LIMIT)
        assert [each.owner for each in state.holders] == ["holder"]
        assert [each.ticket for each in state.waiters] == ["waiter"]
        assert backend.release(LIMIT, "holder")
        assert waiting.ask().fencing_token > grant.fencing_token


@AGREEING
def test_without_a_majority_nobody_gets_a_lease(store, trio, opened):
    backend = opened(store.giving_up(trio.url, 2) if store.notices else trio.url)
    grant = taken(backend, "before", "before", ttl=LONG)
    leader = trio.leader()
    others = [each for each in trio.members if each is not leader]
    for each in others:
        each.pause()
    began = time.monotonic()
    with pytest.raises(BackendUnavailable):
        taken(backend, "a")
    assert time.monotonic() - began < 12
    for each in others:
        each.resume()
    assert eventually(lambda: answers(backend), within=60)
    assert backend.renew([grant])[0].fencing_token == grant.fencing_token
    assert [each.owner for each in backend.inspect("before").holders] == ["before"]


def test_the_death_of_the_leader_leaves_no_threads_or_files_behind(kind, store, trio, opened):
    # redis-py keeps one connection to the sentinel for as long as the backend is known.
    with grows_not(lambda: open_at(kind), {"files": int(kind == "redis")}):
        backend = opened(trio.url)
        used(backend)
        trio.leader().kill()
        used(backend, misses=store.misses)
        backend.close()
