"""What etcd can do to those who hold and wait: no two live leases beyond capacity, and everybody goes on alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasklocks import BackendUnavailable, LeaseLost, Lock, connect
from tasklocks.backends.etcd import EtcdBackend
from tasklocks.backends.etcd.sessions import MIN_TTL
from tasklocks.types import Grant
from tests.conftest import require
from tests.line import LONG, NAME, Line, free, taken
from tests.processes import ROOT, ChildProcess, eventually
from tests.relay import Relay
from tests.servers_etcd import EtcdCluster, EtcdServer
from tests.storm.checker import check
from tests.storm.hammer import CAPACITIES
from tests.storm.records import read

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]

TTL = MIN_TTL
PROCESSES = 4


@pytest.fixture
def server(tmp_path):
    require(EtcdServer)
    with EtcdServer(tmp_path / "etcd") as running:
        yield running


@pytest.fixture
def cluster(tmp_path):
    require(EtcdServer)
    with EtcdCluster(tmp_path / "members") as running:
        yield running


# One server.


def test_a_lease_survives_a_restart_of_the_server(server):
    backend = EtcdBackend(server.url)
    with Lock(NAME, ttl=10, backend=backend) as lease:
        server.restart()
        lease.renew()
        assert backend.inspect(NAME).holders[0].fencing_token == lease.fencing_token
    assert backend.inspect(NAME).holders == ()
    assert taken(backend, "later").fencing_token > lease.fencing_token
    backend.close()


def test_who_waits_over_a_restart_gets_the_lease_by_itself(server):
    holder, backend = EtcdBackend(server.url), EtcdBackend(server.url)
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
    backend = EtcdBackend(f"{server.url}/?timeout=1")
    lease = Lock(NAME, ttl=TTL, backend=backend).acquire()
    server.pause()
    try:
        time.sleep(1.2 * TTL)
        assert lease.lost
        with pytest.raises(LeaseLost):
            lease.check()
        with pytest.raises(BackendUnavailable, match=f"{server.address} does not answer"):
            backend.inspect(NAME)
    finally:
        server.resume()
    successor = _taken_soon(backend, "successor")
    assert successor.fencing_token > lease.fencing_token
    assert lease.release() is False
    assert backend.inspect(NAME).holders[0].owner == "successor"
    backend.close()


def test_what_a_frozen_server_did_after_its_caller_gave_up_does_not_stay(server):
    backend = EtcdBackend(f"{server.url}/?timeout=0.5")
    taken(backend, "warm", "warm", ttl=TTL)
    server.pause()
    try:
        with pytest.raises(BackendUnavailable):
            taken(backend, "a", ttl=TTL)
    finally:
        server.resume()
    # etcd has read the question and makes the lease of which nobody knows.
    assert eventually(lambda: _free_for_others(server), within=12, every=0.3)
    backend.close()


@pytest.mark.parametrize("lose", ["everything", "what came after a snapshot"])
def test_tokens_go_on_growing_when_data_is_lost(server, tmp_path, lose):
    backend = EtcdBackend(server.url)
    tokens = [_turn(backend, number) for number in range(5)]
    snapshot = tmp_path / "snapshot"
    if lose != "everything":
        _etcdctl("--endpoints", server.address, "snapshot", "save", str(snapshot))
    tokens += [_turn(backend, number) for number in range(5, 60)]
    server.stop()
    shutil.rmtree(server.folder / "data")
    if lose != "everything":
        peers = ("--initial-cluster", server.cluster, "--initial-advertise-peer-urls", server.peer_url)
        _etcdctl("snapshot", "restore", str(snapshot), "--data-dir", str(server.folder / "data"), *peers)
    server.start()
    tokens += [_turn(backend, number) for number in range(60, 65)]
    assert tokens == sorted(set(tokens))
    backend.close()


def test_what_is_known_from_before_a_restored_snapshot_lets_nobody_in(server, tmp_path):
    late, other = EtcdBackend(server.url), EtcdBackend(server.url)
    _etcdctl("--endpoints", server.address, "snapshot", "save", str(tmp_path / "snapshot"))
    for number in range(30):
        _turn(late, number)
    server.stop()
    shutil.rmtree(server.folder / "data")
    peers = ("--initial-cluster", server.cluster, "--initial-advertise-peer-urls", server.peer_url)
    _etcdctl("snapshot", "restore", str(tmp_path / "snapshot"), "--data-dir", str(server.folder / "data"), *peers)
    server.start()
    taken(other, "other")
    assert not free(late)
    late.close()
    other.close()


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
        backend = EtcdBackend(_through(relay))
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
    near = EtcdBackend(server.url)
    with Relay(server.port) as relay:
        far = EtcdBackend(f"{_through(relay)}/?timeout=2")
        lease = Lock(NAME, ttl=TTL, backend=far).acquire()
        relay.hold()
        with Lock(NAME, ttl=TTL, backend=near).acquire(timeout=TTL + 5) as successor:
            assert lease.lost
            late = threading.Thread(target=_quietly, args=(lease.release,))
            late.start()
            time.sleep(0.2)
            relay.let_go()
            late.join()
            assert successor.fencing_token > lease.fencing_token
            successor.renew()
        far.close()
    near.close()


def test_a_waiter_that_cannot_hear_finds_out_by_itself(server):
    near = EtcdBackend(server.url)
    taken(near, "holder")
    with Relay(server.port) as relay:
        far = EtcdBackend(_through(relay))
        waiting, got = _waiter(far)
        relay.cut()
        near.release(NAME, "holder")
        waiting.join(10)
        assert len(got) == 1
        far.close()
    near.close()


# Three members.


def test_nobody_overlaps_when_the_leader_is_killed(cluster, tmp_path):
    _hammered(cluster.url, tmp_path, lambda: cluster.leader().kill())


def test_nobody_overlaps_when_the_leader_freezes_and_comes_back(cluster, tmp_path):
    _hammered(cluster.url, tmp_path, lambda: _frozen(cluster.leader(), 5))


def test_leases_places_and_tokens_survive_the_death_of_the_leader(cluster):
    backend = EtcdBackend(cluster.url)
    grant = taken(backend, "holder", ttl=LONG)
    with Line(backend) as line:
        waiting = line.join("waiter", keep=LONG)
        cluster.leader().kill()
        assert backend.renew([grant])[0].fencing_token == grant.fencing_token
        state = backend.inspect(NAME)
        assert ([each.owner for each in state.holders], [each.ticket for each in state.waiters]) == (
            ["holder"],
            ["waiter"],
        )
        assert backend.release(NAME, "holder")
        assert waiting.ask().fencing_token > grant.fencing_token
    backend.close()


def test_without_a_majority_nobody_gets_a_lease(cluster):
    backend = EtcdBackend(cluster.url)
    taken(backend, "before", "before")
    leader = cluster.leader()
    others = [each for each in cluster.members if each is not leader]
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


def test_outages_leave_no_threads_files_or_leases_behind(server):
    backend = EtcdBackend(server.url)
    _uses(backend)
    with _in_use_grows_not(server):
        for _ in range(6):
            server.restart()
            _uses(backend)
    backend.close()


def test_nothing_of_a_closed_backend_stays(server):
    with _in_use_grows_not(server):
        for _ in range(5):
            backend = EtcdBackend(server.url)
            _uses(backend)
            backend.close()


# Forks.


def test_over_grpc_a_forked_process_is_refused_and_told_what_to_write_instead(server):
    program = f"""
import os, sys
from tasklocks import ConfigurationError, Lock
lock = Lock("forked", backend="etcd+grpc://{server.address}")
with lock:
    pid = os.fork()
    if pid == 0:
        try:
            lock.acquire(blocking=False)
        except ConfigurationError as error:
            os._exit(0 if "etcd:// instead" in str(error) else 2)
        os._exit(3)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, timeout=30).returncode == 0


def _turn(backend: EtcdBackend, number: int) -> int:
    grant = taken(backend, f"owner-{number}")
    backend.release(NAME, grant.owner)
    return grant.fencing_token


def _uses(backend: EtcdBackend) -> None:
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
def _in_use_grows_not(server: EtcdServer) -> Iterator[None]:
    """Count threads and files of this process, and leases of the server, before and after."""
    before = _in_use(server)
    yield
    assert eventually(lambda: _no_more(_in_use(server), before), within=20, every=0.5), (before, _in_use(server))


def _in_use(server: EtcdServer) -> dict[str, int]:
    return {
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
        "leases": len([each for each in server.leases() if server.ttl(each) < 1000]),
    }


def _no_more(now: dict[str, int], before: dict[str, int]) -> bool:
    # A pool keeps as many connections as were in use at once, which differs by one or two from run to run.
    return all(now[what] <= before[what] + 2 * (what == "files") for what in before)


def _waiter(backend: EtcdBackend) -> tuple[threading.Thread, list[int]]:
    """A thread that waits in line, and what it gets."""
    got: list[int] = []

    def wait() -> None:
        with Lock(NAME, backend=backend).acquire(timeout=30) as lease:
            got.append(lease.fencing_token)

    thread = threading.Thread(target=wait)
    thread.start()
    assert eventually(lambda: backend.inspect(NAME).waiters, within=10)
    return thread, got


def _frozen(server: EtcdServer, seconds: float) -> None:
    server.pause()
    time.sleep(seconds)
    server.resume()


def _through(relay: Relay) -> str:
    return f"etcd://127.0.0.1:{relay.port}"


def _answers(backend: EtcdBackend) -> bool:
    try:
        taken(backend, "probe", "probe")
        return backend.release("probe", "probe")
    except BackendUnavailable:
        return False


def _taken_soon(backend: EtcdBackend, owner: str) -> Grant:
    """Take the limit as soon as etcd has noticed that what was held is over."""
    assert eventually(lambda: not _quietly(lambda: backend.inspect(NAME).holders), within=10)
    return taken(backend, owner)


def _quietly(step: Callable[[], object]) -> object:
    try:
        return step()
    except BackendUnavailable:
        return True


def _free_for_others(server: EtcdServer) -> bool:
    other = connect(server.url, prefix="tasklocks", options={"timeout": 3})
    try:
        return free(other)
    finally:
        other.close()


def _etcdctl(*command: str) -> None:
    program = shutil.which("etcdctl")
    if program is None:
        pytest.skip("etcdctl is not installed: run `make test`")
    subprocess.run([program, *command], check=True, capture_output=True, env={"ETCDCTL_API": "3"})


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
    return journal.read_text().count("granted") if journal.exists() else 0
