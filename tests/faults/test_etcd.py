"""What happens to etcd only: data lost and restored, leases of which nobody heard, gRPC over a fork."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress

import pytest

from tasklocks import BackendUnavailable, clock, connect
from tasklocks.backends import Backend
from tasklocks.backends.etcd import EtcdBackend
from tasklocks.types import Grant
from tests.conftest import missing_program
from tests.faults.stores import with_option
from tests.faults.using import turn
from tests.line import free, taken
from tests.processes import ROOT, eventually
from tests.relay import Relay
from tests.servers_etcd import EtcdServer

pytestmark = pytest.mark.parametrize("kind", ["etcd"], indirect=True)


def test_what_a_frozen_server_did_after_its_caller_gave_up_does_not_stay(store, server, opened):
    backend = opened(with_option(server.url, "timeout=0.5"))
    taken(backend, "warm", "warm", ttl=store.ttl)
    server.pause()
    try:
        with pytest.raises(BackendUnavailable):
            taken(backend, "a", ttl=store.ttl)
    finally:
        server.resume()
    # etcd has read the question and makes the lease of which nobody knows.
    assert eventually(lambda: _free_for_others(server), within=12, every=0.3)


@pytest.mark.parametrize("lose", ["everything", "what came after a snapshot"])
def test_tokens_go_on_growing_when_data_is_lost(server, opened, tmp_path, lose):
    backend = opened(server.url)
    tokens = [turn(backend, f"owner-{number}") for number in range(5)]
    snapshot = _saved(server, tmp_path) if lose != "everything" else None
    tokens += [turn(backend, f"owner-{number}") for number in range(5, 60)]
    _set_back(server, snapshot)
    tokens += [turn(backend, f"owner-{number}") for number in range(60, 65)]
    assert tokens == sorted(set(tokens))


def test_what_is_known_from_before_a_restored_snapshot_lets_nobody_in(server, opened, tmp_path):
    late, other = opened(server.url), opened(server.url)
    snapshot = _saved(server, tmp_path)
    for number in range(30):
        turn(late, f"owner-{number}")
    _set_back(server, snapshot)
    taken(other, "other")
    assert not free(late)


@pytest.mark.parametrize("scheme", ["etcd", "etcd+grpc"])
def test_a_leader_that_was_deposed_while_it_was_frozen_renews_nothing(trio, scheme):
    leader = trio.leader()
    other = next(member for member in trio.members if member is not leader)
    with Relay(other.port) as relay, closing(connect(f"{scheme}://127.0.0.1:{relay.port}")) as backend:
        before = other.leases()
        grant = taken(backend, "holder", ttl=20)
        (lease,) = (each for each in other.leases() - before if other.ttl(each) == 19)
        leader.pause()
        # By these answers it is known that another one leads.
        assert eventually(lambda: _renewed(backend, grant), within=20)
        time.sleep(2.2)  # the next sign of life by itself is due after three seconds
        relay.turn_to(leader.port)
        threading.Timer(0.5, leader.resume).start()
        # It waits for the old leader, which wakes, and answers as if it still led.
        renewed = backend.renew([grant])[0]
        left = int(other.ask("/v3/lease/timetolive", ID=lease)["TTL"])
    # etcd tells whole seconds, rounded down.
    assert renewed.deadline - clock.now() < left + 1.2


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


def _saved(server: EtcdServer, folder) -> str:
    snapshot = str(folder / "snapshot")
    _etcdctl("--endpoints", server.address, "snapshot", "save", snapshot)
    return snapshot


def _set_back(server: EtcdServer, snapshot: str | None) -> None:
    """Give the server the data of a snapshot, or none."""
    server.stop()
    shutil.rmtree(server.folder / "data")
    if snapshot is not None:
        peers = ("--initial-cluster", server.cluster, "--initial-advertise-peer-urls", server.peer_url)
        _etcdctl("snapshot", "restore", snapshot, "--data-dir", str(server.folder / "data"), *peers)
    server.start()


def _renewed(backend: Backend, grant: Grant) -> bool:
    with suppress(BackendUnavailable):
        return backend.renew([grant])[0] is not None
    return False


def _free_for_others(server: EtcdServer) -> bool:
    other = EtcdBackend(with_option(server.url, "timeout=3"))
    try:
        return free(other)
    finally:
        other.close()


def _etcdctl(*command: str) -> None:
    program = shutil.which("etcdctl")
    if program is None:
        missing_program("etcdctl")
    subprocess.run([program, *command], check=True, capture_output=True, env={"ETCDCTL_API": "3"})
