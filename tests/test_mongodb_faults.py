"""What MongoDB can do to those who hold and wait: no two live leases beyond capacity, and everybody goes on alone."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pymongo import MongoClient

from tasklocks import BackendUnavailable, LeaseLost, Lock
from tasklocks.backends.mongodb import MongoBackend
from tests.conftest import require
from tests.line import LONG, NAME, Line, taken
from tests.processes import ChildProcess, eventually
from tests.relay import Relay
from tests.servers_mongodb import MongoReplicaSet, MongoServer, StandaloneMongoServer
from tests.storm.checker import check
from tests.storm.hammer import CAPACITIES
from tests.storm.records import read

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

TTL = 1.0
PROCESSES = 4


@pytest.fixture
def server(tmp_path):
    require(MongoServer)
    with MongoServer(tmp_path / "mongodb") as running:
        yield running


@pytest.fixture
def replica_set(tmp_path):
    require(MongoServer)
    with MongoReplicaSet(tmp_path / "members") as running:
        yield running


# One server.


def test_a_lease_survives_a_restart_of_the_server(server):
    backend = MongoBackend(server.url)
    with Lock(NAME, ttl=10, backend=backend) as lease:
        server.restart()
        lease.renew()
        assert backend.inspect(NAME).holders[0].fencing_token == lease.fencing_token
    assert backend.inspect(NAME).holders == ()
    assert taken(backend, "later").fencing_token > lease.fencing_token
    backend.close()


@pytest.mark.parametrize("kind", [MongoServer, StandaloneMongoServer])
def test_what_was_granted_just_before_the_server_was_killed_is_still_granted(tmp_path, kind):
    require(kind)
    with kind(tmp_path / "mongodb") as server:
        backend = MongoBackend(server.url)
        tokens = []
        for turn in range(3):
            tokens.append(taken(backend, f"o{turn}", capacity=9).fencing_token)
            server.kill()
            server.start()
        assert [each.fencing_token for each in backend.inspect(NAME).holders] == tokens
        backend.close()


def test_who_waits_over_a_restart_gets_the_lease_by_itself(server):
    holder, backend = MongoBackend(server.url), MongoBackend(server.url)
    taken(holder, "holder")
    waiting, got = _waiter(backend)
    server.restart()
    assert holder.release(NAME, "holder")
    waiting.join(10)
    assert len(got) == 1
    holder.close()
    backend.close()


def test_nobody_overlaps_over_a_restart(server, tmp_path):
    _hammered(server.url, tmp_path, server.restart)


def test_nobody_overlaps_when_the_server_is_killed(server, tmp_path):
    def killed() -> None:
        server.kill()
        server.start()

    _hammered(server.url, tmp_path, killed)


def test_nobody_overlaps_when_the_server_freezes_for_longer_than_a_lease(server, tmp_path):
    _hammered(server.url, tmp_path, lambda: _frozen(server, 2.5 * TTL))


def test_a_holder_is_told_of_a_loss_while_the_server_is_frozen(server):
    backend = MongoBackend(f"{server.url}&socketTimeoutMS=1000")
    lease = Lock(NAME, ttl=TTL, backend=backend).acquire()
    server.pause()
    try:
        time.sleep(1.2 * TTL)
        assert lease.lost
        with pytest.raises(LeaseLost):
            lease.check()
        with pytest.raises(BackendUnavailable, match="does not answer"):
            backend.inspect(NAME)
    finally:
        server.resume()
    successor = taken(backend, "successor")
    assert successor.fencing_token > lease.fencing_token
    assert lease.release() is False
    assert backend.inspect(NAME).holders[0].owner == "successor"
    backend.close()


# The connection.


def test_nobody_overlaps_when_connections_are_cut_again_and_again(server, tmp_path):
    def cut(relay: Relay) -> None:
        for _ in range(10):
            time.sleep(0.3)
            relay.cut()

    with Relay(server.port) as relay:
        _hammered(_through(relay), tmp_path, lambda: cut(relay))


def test_a_connection_cut_between_two_steps_is_not_noticed(server):
    with Relay(server.port) as relay:
        backend = MongoBackend(_through(relay))
        grant = taken(backend, "a")
        for step in (
            lambda: backend.renew([grant])[0],
            lambda: backend.inspect(NAME).holders,
            lambda: backend.release(NAME, "a"),
        ):
            relay.cut()
            assert step()
        backend.close()


def test_late_steps_of_a_holder_that_was_cut_off_touch_nobody(server):
    near = MongoBackend(server.url)
    with Relay(server.port) as relay:
        far = MongoBackend(f"{_through(relay)}&socketTimeoutMS=2000")
        lease = Lock(NAME, ttl=TTL, backend=far).acquire()
        relay.hold()
        time.sleep(1.1 * TTL)
        assert lease.lost
        successor = taken(near, "successor")
        late = threading.Thread(target=lease.release)
        late.start()
        time.sleep(0.2)
        relay.let_go()
        late.join()
        assert successor.fencing_token > lease.fencing_token
        assert near.inspect(NAME).holders[0].owner == "successor"
        far.close()
    near.close()


def test_a_waiter_that_cannot_hear_finds_out_by_itself(server):
    near = MongoBackend(server.url)
    taken(near, "holder")
    with Relay(server.port) as relay:
        far = MongoBackend(_through(relay))
        waiting, got = _waiter(far)
        relay.cut()
        near.release(NAME, "holder")
        waiting.join(10)
        assert len(got) == 1
        far.close()
    near.close()


# Replica sets.


def test_nobody_overlaps_when_the_primary_is_killed(replica_set, tmp_path):
    _hammered(replica_set.url, tmp_path, lambda: replica_set.primary.kill())


def test_nobody_overlaps_when_the_primary_steps_down(replica_set, tmp_path):
    _hammered(replica_set.url, tmp_path, replica_set.step_down)


def test_nobody_overlaps_when_the_primary_freezes_and_comes_back(replica_set, tmp_path):
    _hammered(replica_set.url, tmp_path, lambda: _frozen(replica_set.primary, 5))


def test_leases_places_and_tokens_survive_the_death_of_the_primary(replica_set):
    backend = MongoBackend(f"{replica_set.url}&serverSelectionTimeoutMS=15000")
    grant = taken(backend, "holder", ttl=LONG)
    with Line(backend) as line:
        waiting = line.join("waiter", keep=LONG)
        replica_set.primary.kill()
        assert backend.renew([grant])[0].fencing_token == grant.fencing_token
        state = backend.inspect(NAME)
        assert ([each.owner for each in state.holders], [each.ticket for each in state.waiters]) == (
            ["holder"],
            ["waiter"],
        )
        assert backend.release(NAME, "holder")
        assert waiting.ask().fencing_token > grant.fencing_token
    backend.close()


def test_without_a_majority_nobody_gets_a_lease(replica_set):
    backend = MongoBackend(replica_set.url)
    taken(backend, "before", "before")
    primary = replica_set.primary
    others = [each for each in replica_set.members if each is not primary]
    for each in others:
        each.pause()
    began = time.monotonic()
    with pytest.raises(BackendUnavailable):
        taken(backend, "a")
    assert time.monotonic() - began < 12
    for each in others:
        each.resume()
    assert eventually(lambda: _answers(backend), within=30)
    assert [each.owner for each in backend.inspect("before").holders] == ["before"]
    backend.close()


# Leaks.


def test_outages_leave_no_threads_files_or_cursors_behind(server):
    backend = MongoBackend(server.url)
    _uses(backend)
    with _in_use_grows_not(server):
        for _ in range(4):
            server.restart()
            _uses(backend)
    backend.close()


def test_nothing_of_a_closed_backend_stays_open(server):
    with _in_use_grows_not(server):
        for _ in range(5):
            backend = MongoBackend(server.url)
            _uses(backend)
            backend.close()


def _uses(backend: MongoBackend) -> None:
    """Hold, wait and hear, several at once."""
    assert eventually(lambda: _answers(backend), within=30)
    taken(backend, "holder", "used")
    with Line(backend) as line:
        waiters = [line.join(f"waiter-{number}", "used") for number in range(3)]
        backend.release("used", "holder")
        for each in waiters:
            assert each.hears()
            backend.release("used", each.request.owner)


@contextmanager
def _in_use_grows_not(server: MongoServer) -> Iterator[None]:
    """Count threads and files of this process, and cursors and connections of the server, before and after."""
    with MongoClient(f"mongodb://{server.address}/?directConnection=true") as client:
        before = _in_use(client)
        yield
        # The client's threads end when they next look around.
        assert eventually(lambda: _no_more(_in_use(client), before), within=20, every=0.5), (before, _in_use(client))


def _in_use(client: MongoClient) -> dict[str, int]:
    status = client.admin.command("serverStatus")
    return {
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "cursors": status["metrics"]["cursor"]["open"]["total"],
        "connections": status["connections"]["current"],
    }


def _no_more(now: dict[str, int], before: dict[str, int]) -> bool:
    return all(now[what] <= before[what] for what in before)


def _waiter(backend: MongoBackend) -> tuple[threading.Thread, list[int]]:
    """A thread that waits in line, and what it gets."""
    got: list[int] = []

    def wait() -> None:
        with Lock(NAME, backend=backend).acquire(timeout=30) as lease:
            got.append(lease.fencing_token)

    thread = threading.Thread(target=wait)
    thread.start()
    assert eventually(lambda: backend.inspect(NAME).waiters, within=10)
    return thread, got


def _frozen(server, seconds: float) -> None:
    server.pause()
    time.sleep(seconds)
    server.resume()


def _through(relay: Relay) -> str:
    return f"mongodb://127.0.0.1:{relay.port}/tests?directConnection=true"


def _answers(backend: MongoBackend) -> bool:
    try:
        taken(backend, "probe", "probe")
        return backend.release("probe", "probe")
    except BackendUnavailable:
        return False


def _hammered(url: str, folder: Path, fault: Callable[[], object]) -> None:
    """Let processes take turns with two limits, do it, and check their record of before, meanwhile and after."""
    crew = [_hammer(url, folder) for _ in range(PROCESSES)]
    try:
        assert eventually(lambda: _granted(folder) > 20, within=30), crew[0].log()
        fault()
        done = _granted(folder)
        assert eventually(lambda: _granted(folder) > done + 50, within=40, every=0.2), crew[0].log()
        (folder / "stop").touch()
        for each in crew:
            assert each.wait(40) == 0, each.log()
    finally:
        for each in crew:
            each.kill()
    verdict = check(read(folder / "journal"), CAPACITIES)
    print(verdict)
    assert not verdict.complaints, "\n".join(verdict.complaints[:5])


def _hammer(url: str, folder: Path) -> ChildProcess:
    return ChildProcess([sys.executable, "-m", "tests.storm.hammer", url, str(folder), str(TTL)], log=folder / "log")


def _granted(folder: Path) -> int:
    journal = folder / "journal"
    return journal.read_bytes().count(b"granted") if journal.exists() else 0
