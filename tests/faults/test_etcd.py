"""What happens to etcd only: data lost and restored, leases of which nobody heard, gRPC over a fork."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tasklocks import BackendUnavailable
from tasklocks.backends.etcd import EtcdBackend
from tests.conftest import missing_program
from tests.faults.stores import with_option
from tests.faults.using import turn
from tests.line import free, taken
from tests.processes import ROOT, eventually
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
