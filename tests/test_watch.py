"""What a killed process held is given back by whoever watches it, as soon as it is gone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from tasklocks import Lock, backends, clock, connect, ledger
from tasklocks.backends import _registry
from tasklocks.backends.memory import MemoryBackend
from tasklocks.celery.watch import Watch
from tasklocks.leases import Lease
from tasklocks.types import AcquireRequest, Grant
from tests.line import NAME, Line, free, taken
from tests.processes import eventually

TTL = 30.0
SOON = 3.0


@pytest.fixture
def watch():
    watching = Watch()
    yield watching
    watching.close()
    assert not watching.folder.exists()


@pytest.fixture(autouse=True)
def closed_backends():
    """Close what a watch connected to, on behalf of the dead."""
    yield
    for backend in list(backends._registry.backends.values()):
        backend.close()


@pytest.fixture
def watched(watch):
    """Return a function that runs `body` in a watched child, which then sleeps; it returns the child's pid."""
    children = []

    def start(body: Callable[[], object]) -> int:
        pid = os.fork()
        if pid == 0:
            watch.hello()
            kept = body()
            open(watch.folder / f"ready-{os.getpid()}", "w").close()
            time.sleep(60)
            os._exit(bool(kept))
        children.append(pid)
        assert eventually((watch.folder / f"ready-{pid}").exists, within=30)
        return pid

    yield start
    for pid in children:
        _kill(pid)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def test_what_a_killed_process_held_is_free_at_once(process_backend_url, watched):
    backend = connect(process_backend_url)
    pid = watched(lambda: [Lock(f"{NAME}-{n}", ttl=TTL, backend=process_backend_url).acquire() for n in range(3)])
    assert not free(backend, f"{NAME}-1")
    _kill(pid)
    assert eventually(lambda: all(free(backend, f"{NAME}-{n}") for n in range(3)), within=SOON)
    backend.close()


def test_a_killed_waiter_leaves_the_line_at_once(process_backend_url, watched):
    backend = connect(process_backend_url)
    holder = taken(backend, "holder", ttl=TTL)

    def wait() -> None:
        import threading

        lock = Lock(NAME, ttl=TTL, backend=process_backend_url)
        threading.Thread(target=lock.acquire, daemon=True).start()
        assert eventually(lambda: connect(process_backend_url).inspect(NAME).waiters, within=5)

    pid = watched(wait)
    assert backend.inspect(NAME).waiters
    _kill(pid)
    assert eventually(lambda: not backend.inspect(NAME).waiters, within=SOON)
    assert backend.release(NAME, holder.owner)
    backend.close()


def test_what_was_given_back_before_is_left_alone(process_backend_url, watched, caplog):
    backend = connect(process_backend_url)
    pid = watched(lambda: Lock(NAME, ttl=TTL, backend=process_backend_url).acquire().release())
    successor = taken(backend, "successor", ttl=TTL)
    _kill(pid)
    time.sleep(0.3)
    assert backend.inspect(NAME).holders[0].owner == successor.owner
    assert not caplog.records
    backend.close()


def test_a_permit_stays_taken_for_at_least_its_time_also_if_its_process_is_killed(process_backend_url, watched):
    backend = connect(process_backend_url)

    def take() -> Lease:
        answer = connect(process_backend_url).acquire(AcquireRequest(NAME, "brief", ttl=TTL))
        assert isinstance(answer, Grant)
        return Lease(connect(process_backend_url), answer, at_least=2)

    began = clock.now()
    _kill(watched(take))
    assert eventually(lambda: free(backend), within=2 + SOON)
    assert clock.now() - began >= 1.9
    backend.close()


def test_a_backend_that_is_down_just_then_is_asked_again(redis_server, watched, caplog):
    url = f"{redis_server.url}?socket_timeout=0.3"
    backend = connect(url)
    pid = watched(lambda: Lock(NAME, ttl=TTL, backend=url).acquire())
    assert not free(backend)
    redis_server.pause()
    _kill(pid)
    assert eventually(lambda: "trying again" in caplog.text, within=5)
    redis_server.resume()
    assert eventually(lambda: free(backend), within=SOON)
    backend.close()


def test_a_ledger_is_for_this_user_only_and_tells_no_password(tmp_path, watch, watched):
    pid = watched(lambda: Lock(NAME, ttl=TTL, backend=f"sqlite:///{tmp_path}/secret.db").acquire())
    path = watch.folder / str(pid)
    assert NAME in path.read_text()
    assert "secret" not in path.read_text()
    assert (path.stat().st_mode | watch.folder.stat().st_mode) & 0o077 == 0


def test_a_process_that_a_watched_one_forks_keeps_no_ledger(tmp_path, watch, watched):
    def fork_and_take() -> None:
        if os.fork() == 0:
            Lock(NAME, ttl=TTL, backend=f"sqlite:///{tmp_path}/locks.db").acquire()
            os._exit(0)
        os.wait()

    watched(fork_and_take)
    assert [path.name for path in watch.folder.iterdir() if path.name.isdecimal()] == []


@pytest.mark.parametrize("left", [b"", b"12\n", b"9\nnot json!", b"2\n{}", b'13\n[{"name": 1}]', b"x\n[]"])
def test_a_ledger_that_was_cut_short_costs_nothing_but_time(tmp_path, left):
    (tmp_path / "123").write_bytes(left)
    assert list(ledger.read(tmp_path, 123)) == []


def test_many_leases_fit_into_a_ledger(process_backend_url, watch, watched):
    backend = connect(process_backend_url)

    def take() -> list[Lease]:
        return [Lock(f"{NAME}-{'x' * 200}-{n}", ttl=TTL, backend=process_backend_url).acquire() for n in range(100)]

    pid = watched(take)
    _kill(pid)
    assert eventually(lambda: free(backend, f"{NAME}-{'x' * 200}-99"), within=SOON)
    assert not (watch.folder / str(pid)).exists()
    with Line(backend):
        assert all(free(backend, f"{NAME}-{'x' * 200}-{n}") for n in range(100))
    backend.close()


class Faulty(MemoryBackend):
    """A backend with a fault that passes."""

    faults = 2

    def release(self, name: str, owner: str, keep: float = 0.0) -> bool:
        if self.faults:
            self.faults -= 1
            raise ZeroDivisionError("a fault of a backend")
        return super().release(name, owner, keep)


def test_a_faulty_backend_does_not_end_the_watch(watch, watched, monkeypatch, caplog):
    faulty = Faulty()
    monkeypatch.setitem(_registry.fingerprints, faulty, "faulty")
    taken(faulty, "child")
    _kill(watched(lambda: ledger.note("faulty", NAME, "child")))
    assert eventually(lambda: free(faulty), within=SOON + 2)
    assert caplog.text.count("a fault of a backend") >= 1
