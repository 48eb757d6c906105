"""What ZooKeeper can do to those who hold and wait: no two live leases beyond capacity, and everybody goes on alone."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasklocks import BackendUnavailable, LeaseLost, Lock
from tasklocks.backends.zookeeper import ZooKeeperBackend
from tests.conftest import require
from tests.line import LONG, NAME, Line, taken
from tests.processes import ChildProcess, eventually
from tests.relay import Relay
from tests.servers_zookeeper import ZooKeeperEnsemble, ZooKeeperServer
from tests.storm.checker import check
from tests.storm.hammer import CAPACITIES
from tests.storm.records import read

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

TTL = 1.0
PROCESSES = 4


@pytest.fixture
def server(tmp_path):
    require(ZooKeeperServer)
    with ZooKeeperServer(tmp_path / "zookeeper") as running:
        yield running


@pytest.fixture
def ensemble(tmp_path):
    require(ZooKeeperServer)
    with ZooKeeperEnsemble(tmp_path / "members") as running:
        yield running


# One server.


def test_a_lease_survives_a_restart_of_the_server(server):
    backend = ZooKeeperBackend(server.url)
    with Lock(NAME, ttl=10, backend=backend) as lease:
        server.restart()
        assert eventually(lambda: _answers(backend), within=20)
        lease.renew()
        assert backend.inspect(NAME).holders[0].fencing_token == lease.fencing_token
    assert backend.inspect(NAME).holders == ()
    assert taken(backend, "later").fencing_token > lease.fencing_token
    backend.close()


def test_who_waits_over_a_restart_gets_the_lease_by_itself(server):
    holder, backend = ZooKeeperBackend(server.url), ZooKeeperBackend(server.url)
    taken(holder, "holder")
    waiting, got = _waiter(backend)
    server.restart()
    assert eventually(lambda: _answers(holder), within=20)
    assert holder.release(NAME, "holder")
    waiting.join(15)
    assert len(got) == 1
    holder.close()
    backend.close()


def test_nobody_overlaps_when_the_server_is_killed(server, tmp_path):
    _hammered(server.url, tmp_path, server.restart)


def test_nobody_overlaps_when_the_server_freezes_for_longer_than_a_lease(server, tmp_path):
    _hammered(server.url, tmp_path, lambda: _frozen(server, 2.5 * TTL))


def test_a_holder_is_told_of_a_loss_while_the_server_is_frozen(server):
    backend = ZooKeeperBackend(f"{server.url}?timeout=1")
    lease = Lock(NAME, ttl=TTL, backend=backend).acquire()
    server.pause()
    try:
        time.sleep(1.2 * TTL)
        assert lease.lost
        with pytest.raises(LeaseLost):
            lease.check()
        with pytest.raises(BackendUnavailable, match="did not answer within 1 s"):
            backend.inspect(NAME)
    finally:
        server.resume()
    assert eventually(lambda: _answers(backend), within=20)
    # A renewal that was under way when the server froze may have kept the permit for one ttl more.
    with Lock(NAME, backend=backend).acquire(timeout=10) as successor:
        assert successor.fencing_token > lease.fencing_token
        assert lease.release() is False
        assert backend.inspect(NAME).holders[0].owner == successor.owner
    backend.close()


# The connection.


def test_nobody_overlaps_when_connections_are_cut_again_and_again(server, tmp_path):
    def cut(relay: Relay) -> None:
        for _ in range(10):
            time.sleep(0.3)
            relay.cut()

    with Relay(server.port) as relay:
        _hammered(f"zookeeper://127.0.0.1:{relay.port}", tmp_path, lambda: cut(relay))


def test_a_lease_and_a_place_survive_a_cut_connection(server):
    near = ZooKeeperBackend(server.url)
    taken(near, "holder")
    with Relay(server.port) as relay:
        far = ZooKeeperBackend(f"zookeeper://127.0.0.1:{relay.port}")
        grant = taken(far, "other", "held")
        waiting, got = _waiter(far)
        relay.cut()
        near.release(NAME, "holder")
        waiting.join(15)
        assert len(got) == 1
        assert far.renew([grant])[0].fencing_token == grant.fencing_token
        far.close()
    near.close()


def test_late_steps_of_a_holder_that_was_cut_off_touch_nobody(server):
    near = ZooKeeperBackend(server.url)
    with Relay(server.port) as relay:
        far = ZooKeeperBackend(f"zookeeper://127.0.0.1:{relay.port}?timeout=3")
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


def test_a_lease_whose_answer_was_lost_is_not_kept_from_others(server):
    near = ZooKeeperBackend(server.url)
    near.release(NAME, taken(near, "somebody").owner)
    with Relay(server.port) as relay:
        far = ZooKeeperBackend(f"zookeeper://127.0.0.1:{relay.port}?timeout=0.5")
        taken(far, "somebody", "warm too")
        relay.hold()
        with pytest.raises(BackendUnavailable):
            taken(far, "nobody")
        relay.let_go()
        # What was on its way arrives now; the next step of the one who sent it takes it back.
        assert eventually(lambda: near.inspect(NAME).holders, within=10)
        assert eventually(lambda: _answers(far), within=20)
        assert eventually(lambda: not near.inspect(NAME).holders, within=5)
        far.close()
    near.close()


# Ensembles.


def test_nobody_overlaps_when_the_leader_is_killed(ensemble, tmp_path):
    _hammered(ensemble.url, tmp_path, lambda: ensemble.leader().kill())


def test_nobody_overlaps_when_the_leader_freezes_and_comes_back(ensemble, tmp_path):
    _hammered(ensemble.url, tmp_path, lambda: _frozen(ensemble.leader(), 6))


def test_leases_places_and_tokens_survive_the_death_of_the_leader(ensemble):
    backend = ZooKeeperBackend(f"{ensemble.url}?session_timeout=30&timeout=20")
    grant = taken(backend, "holder", ttl=LONG)
    with Line(backend) as line:
        waiting = line.join("waiter", keep=LONG)
        ensemble.leader().kill()
        assert eventually(lambda: _answers(backend), within=30)
        assert backend.renew([grant])[0].fencing_token == grant.fencing_token
        state = backend.inspect(NAME)
        assert ([each.owner for each in state.holders], [each.ticket for each in state.waiters]) == (
            ["holder"],
            ["waiter"],
        )
        assert backend.release(NAME, "holder")
        assert waiting.ask().fencing_token > grant.fencing_token
    backend.close()


def test_without_a_majority_nobody_gets_a_lease(ensemble):
    backend = ZooKeeperBackend(f"{ensemble.url}?timeout=2")
    grant = taken(backend, "before", "before")
    leader = ensemble.leader()
    others = [each for each in ensemble.servers if each is not leader]
    for each in others:
        each.pause()
    with pytest.raises(BackendUnavailable):
        taken(backend, "a")
    for each in others:
        each.resume()
    assert eventually(lambda: _answers(backend), within=60)
    assert backend.renew([grant])[0] is not None
    backend.close()


# Leaks.


def test_outages_leave_no_threads_files_sessions_or_watches_behind(server):
    backend = ZooKeeperBackend(f"{server.url}?session_timeout=2")
    _uses(backend)
    with _in_use_grows_not(server):
        for _ in range(3):
            server.restart()
            _uses(backend)
    backend.close()


def test_nothing_of_a_closed_backend_stays_open(server):
    with _in_use_grows_not(server):
        for _ in range(5):
            backend = ZooKeeperBackend(server.url)
            _uses(backend)
            backend.close()


def _uses(backend: ZooKeeperBackend) -> None:
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
def _in_use_grows_not(server: ZooKeeperServer) -> Iterator[None]:
    """Count threads and files of this process, and sessions and watches of the server, before and after."""
    before = _in_use(server)
    yield
    assert eventually(lambda: _no_more(_in_use(server), before), within=20, every=0.2), (before, _in_use(server))


def _in_use(server: ZooKeeperServer) -> dict[str, int]:
    # A process that waited for a limit may go on watching its header: one watch a limit, and no more.
    counts = {what: server.count(f"zk_{what}") for what in ("global_sessions", "num_alive_connections")}
    watches = max(0, server.count("zk_watch_count") - 1)
    return {
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "watches": watches,
        **counts,
    }


def _no_more(now: dict[str, int], before: dict[str, int]) -> bool:
    return all(now[what] <= before[what] for what in before)


def _answers(backend: ZooKeeperBackend) -> bool:
    try:
        backend.release("probe", taken(backend, "probe", "probe").owner)
    except BackendUnavailable:
        return False
    return True


def _waiter(backend: ZooKeeperBackend) -> tuple[threading.Thread, list[int]]:
    """Start a thread that waits for the lock, and return it with the tokens that it will have got."""
    got: list[int] = []

    def wait() -> None:
        with Lock(NAME, backend=backend).acquire(timeout=30) as lease:
            got.append(lease.fencing_token)

    thread = threading.Thread(target=wait)
    thread.start()
    assert eventually(lambda: backend.inspect(NAME).waiters, within=10)
    return thread, got


def _frozen(server: ZooKeeperServer, seconds: float) -> None:
    server.pause()
    time.sleep(seconds)
    server.resume()


def _hammered(url: str, folder: Path, fault: Callable[[], object]) -> None:
    """Let processes take turns with two limits, do it, and check their record of before, meanwhile and after."""
    crew = [_hammer(url, folder) for _ in range(PROCESSES)]
    try:
        assert eventually(lambda: _granted(folder) > 20, within=30), crew[0].log()
        fault()
        done = _granted(folder)
        assert eventually(lambda: _granted(folder) > done + 50, within=60, every=0.2), crew[0].log()
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
