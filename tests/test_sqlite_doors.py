"""How SQLite's waiters are woken: at a door that nobody answers the permit goes on, and a claimed one never does."""

from __future__ import annotations

import os
import random
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tasklocks.backends._sqlite_ears import PUSH
from tasklocks.backends._sqlite_limit import Knock
from tasklocks.backends._sqlite_limit import look as look_inside
from tasklocks.backends._sqlite_steps import release, take_back
from tasklocks.backends.base import GRANT_TTL, WAITER_TTL
from tasklocks.backends.sqlite import SQLiteBackend
from tasklocks.types import Busy, Grant, Place
from tests.line import LONG, NAME, Line, Waiting, free, look, taken
from tests.processes import ChildProcess, eventually

pytestmark = pytest.mark.skipif(not PUSH, reason="waiters are woken on Linux only")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/locks.db"


@pytest.fixture
def backend(url: str) -> Iterator[SQLiteBackend]:
    made = SQLiteBackend(url)
    yield made
    made.close()


def test_the_permit_of_dead_waiters_goes_to_the_next_in_line_at_once(backend, line, url, tmp_path):
    taken(backend, "holder")
    _killed_waiters(backend, url, tmp_path, 3)
    alive = line.join("alive")
    assert alive.busy.ahead == 3
    backend.release(NAME, "holder")
    assert _holders(backend) == ["alive"]
    began = time.monotonic()
    assert alive.hears() is not None
    assert time.monotonic() - began < GRANT_TTL / 2


def test_a_limit_that_only_the_dead_wait_for_is_free_at_once(backend, url, tmp_path):
    taken(backend, "holder", capacity=2, permits=2)
    _killed_waiters(backend, url, tmp_path, 3)
    backend.release(NAME, "holder")
    assert free(backend, capacity=2, permits=2)


def test_a_frozen_waiter_is_not_taken_for_dead(backend, url, tmp_path):
    taken(backend, "holder")
    with _waiting_process(backend, url, tmp_path) as waiter:
        waiter.pause()
        backend.release(NAME, "holder")
        assert len(_holders(backend)) == 1
        waiter.resume()
        assert eventually(lambda: "token" in waiter.log(), within=GRANT_TTL / 2)


def test_a_waiter_in_another_network_namespace_is_not_taken_for_dead(backend, line, url, tmp_path):
    """As in another container: its door cannot be seen from here, but it looks again by itself."""
    apart = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "--net", "--map-root-user"]
    if not shutil.which("unshare") or os.system(f"{' '.join(apart)} true 2>{os.devnull}") != 0:
        pytest.skip("this host makes no network namespaces")
    taken(backend, "holder")
    with _waiting_process(backend, url, tmp_path, *apart) as waiter:
        (place,) = backend.inspect(NAME).waiters
        line.join("next")
        backend.release(NAME, "holder")
        assert _holders(backend) == [place.ticket]
        assert eventually(lambda: "token" in waiter.log(), within=WAITER_TTL)


def test_a_claimed_lease_is_never_taken_back(backend, line):
    taken(backend, "holder")
    waiter, behind = line.join("waiter"), line.join("behind")
    knocks = _released_in_silence(backend)
    claimed = waiter.ask()
    assert isinstance(claimed, Grant)
    assert backend._store().write(partial(take_back, knocks)) == []
    assert backend.renew([claimed])[0].fencing_token == claimed.fencing_token
    assert behind.ask().ahead == 0


def test_a_renewed_lease_is_never_taken_back(backend, line):
    taken(backend, "holder")
    waiter = line.join("waiter")
    knocks = _released_in_silence(backend)
    grant = Grant(NAME, "waiter", 1, LONG, knocks[0].token, 0.0)
    assert backend.renew([grant])[0] is not None
    backend._store().write(partial(take_back, knocks))
    assert waiter.ask().fencing_token == knocks[0].token


def test_a_late_take_back_touches_no_later_lease_of_the_same_owner(backend, line):
    taken(backend, "holder")
    waiter = line.join("waiter")
    knocks = _released_in_silence(backend)
    waiter.leave()
    later = taken(backend, "waiter")
    backend._store().write(partial(take_back, knocks))
    assert backend.renew([later])[0].fencing_token == later.fencing_token


def test_a_lease_that_was_taken_back_leaves_its_token_behind(backend, line, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 0)  # the host's time must not be what makes tokens grow
    taken(backend, "holder")
    line.join("waiter")
    knocks = _released_in_silence(backend)
    backend._store().write(partial(take_back, knocks))
    assert taken(backend, "next").fencing_token > knocks[0].token


def test_a_knock_is_believed_for_its_own_lease_only(backend, line):
    """Who cannot knock for a lease takes it back, so the waiter must not use it on hearing any other knock."""
    taken(backend, "holder")
    waiter = line.join("waiter")
    (knock,) = _released_in_silence(backend)
    _send(waiter, b"%d waiter" % (knock.token - 1))
    assert waiter.listener.wait(1, waiter.busy) is None
    _send(waiter, b"%d waiter" % knock.token)
    assert waiter.listener.wait(1, waiter.busy).fencing_token == knock.token


def test_waiters_without_a_door_never_share_a_permit(url):
    """What they are granted is taken back, unless they ask in time: these ask all the time, so both happen often."""
    inside: list[int] = []
    faults: list[str] = []
    sections = [0] * 4
    stop = time.monotonic() + 2

    def work(turn: int) -> None:
        backend = SQLiteBackend(url)
        gone = _gone_door(backend)
        while time.monotonic() < stop:
            owner = f"{turn}-{sections[turn]}"
            grant = _asked_until_granted(backend, owner, gone)
            inside.append(turn)
            time.sleep(random.uniform(0, 0.001))
            faults.extend(["two inside"] * (len(inside) != 1))
            faults.extend(["taken back"] * (backend.renew([grant])[0] is None))
            inside.pop()
            backend.release(NAME, owner)
            sections[turn] += 1
        backend.close()

    threads = [threading.Thread(target=work, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults[:5]
    assert min(sections) > 20, sections


def test_forged_knocks_cost_a_look_and_nothing_else(backend, line):
    taken(backend, "holder")
    waiter = line.join("waiter")
    for forged in (b"", b"waiter", b"1 waiter", b"\xff" * 10_000, b"1 somebody"):
        _send(waiter, forged)
        waiter.listener.wait(0.05, waiter.busy)
    assert isinstance(waiter.ask(), Busy)
    backend.release(NAME, "holder")
    assert waiter.hears() is not None


def test_a_knock_for_an_earlier_waiter_at_the_same_door_does_not_wake_the_next(backend, line):
    taken(backend, "holder")
    with Line(backend) as before:
        earlier = before.join("earlier")
        backend.release(NAME, "holder")
        assert isinstance(earlier.ask(), Grant)  # without having heard the knock
    later = line.join("later")
    assert later.listener.address == earlier.listener.address
    began = time.monotonic()
    assert later.listener.wait(0.3, later.busy) is None
    assert time.monotonic() - began >= 0.3


def test_an_owner_of_any_length_hears_its_knock(backend, line):
    taken(backend, "holder")
    waiters = [line.join("x" * 5000 + str(turn)) for turn in range(2)]
    for earlier, waiter in zip(["holder", waiters[0].request.owner], waiters, strict=True):
        backend.release(NAME, earlier)
        assert waiter.listener.wait(5, waiter.busy).owner == waiter.request.owner


def test_many_waiters_leave_a_bounded_number_of_doors_open_and_close_leaves_none(backend):
    taken(backend, "holder")
    before = len(os.listdir("/proc/self/fd"))
    with Line(backend) as many:
        for turn in range(200):
            many.join(f"waiter-{turn}")
    assert len(os.listdir("/proc/self/fd")) - before < 80
    backend.close()
    assert len(os.listdir("/proc/self/fd")) <= before


def _holders(backend: SQLiteBackend) -> list[str]:
    return [holder.owner for holder in backend.inspect(NAME).holders]


@contextmanager
def _waiting_process(backend: SQLiteBackend, url: str, folder: Path, *prefix: str) -> Iterator[ChildProcess]:
    already = len(backend.inspect(NAME).waiters)
    command = [*prefix, sys.executable, "-m", "tests.hold", url, NAME, str(LONG)]
    process = ChildProcess(command, log=folder / "waiter.log")
    try:
        assert eventually(lambda: len(backend.inspect(NAME).waiters) > already, within=10), process.log()
        yield process
    finally:
        process.kill()


def _killed_waiters(backend: SQLiteBackend, url: str, folder: Path, count: int) -> None:
    for _ in range(count):
        with _waiting_process(backend, url, folder):
            pass


def _released_in_silence(backend: SQLiteBackend) -> list[Knock]:
    """Release what `holder` has, up to the moment before anyone knocks; return the knocks that are due."""
    key = f"tasklocks:{NAME}"
    return backend._store().write(lambda db, now: release(look_inside(db, key, "holder", now), 0.0))[1]


def _send(waiter: Waiting, knock: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as anybody:
        anybody.sendto(knock, f"\0tasklocks-{waiter.listener.address}")


def _gone_door(backend: SQLiteBackend) -> str:
    listener = backend.listen("nobody")
    listener.close()
    backend.close()
    return listener.address


def _asked_until_granted(backend: SQLiteBackend, owner: str, address: str) -> Grant:
    while True:
        answer = look(backend, owner, place=Place(owner, WAITER_TTL, address))
        if isinstance(answer, Grant):
            return answer
        time.sleep(random.uniform(0, 0.0005))
