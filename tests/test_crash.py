"""Processes are killed and frozen: permits come back within ttl, sections never overlap, nothing is counted twice."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasklocks import Lock, connect
from tasklocks.backends.base import GRANT_TTL
from tests.hammer import NAME, counted
from tests.processes import ChildProcess, eventually
from tests.records import Record, check, read

TTL = 1.0
PROCESSES = 8


def test_a_killed_holder_frees_its_permit_within_ttl(process_backend_url, tmp_path):
    ttl = _ttl(process_backend_url)
    with _holder(process_backend_url, "killed", ttl, tmp_path) as holder:
        token = _token(holder)
        time.sleep(ttl)  # a lease that was renewed comes back just as fast
        holder.kill()
        killed_at = time.monotonic()
        with Lock("killed", backend=process_backend_url).acquire(timeout=ttl + 5) as lease:
            assert time.monotonic() - killed_at < ttl + 0.5
            assert lease.fencing_token > token
    connect(process_backend_url).close()


def test_a_frozen_holder_is_overtaken_and_told(process_backend_url, tmp_path):
    ttl = _ttl(process_backend_url)
    with _holder(process_backend_url, "frozen", ttl, tmp_path) as holder:
        token = _token(holder)
        assert "lost" not in holder.log()
        holder.pause()
        with Lock("frozen", backend=process_backend_url).acquire(timeout=ttl + 5) as lease:
            assert lease.fencing_token > token
            seen = len(holder.log())
            holder.resume()
            assert eventually(lambda: "lost" in holder.log()[seen:], within=5)
            # The late process wakes up to a lost lease at once (its very first word may be from before it froze), and
            # its end does not touch ours.
            said = [word for word in holder.log()[seen:].split() if word in ("held", "lost")]
            assert "held" not in said[1:]
            holder.send(signal.SIGINT)
            holder.wait(10)
            lease.renew()
    connect(process_backend_url).close()


def test_a_killed_waiter_does_not_keep_the_permit(process_backend_url, tmp_path):
    ttl, backend = _ttl(process_backend_url), connect(process_backend_url)
    lock = Lock("waited-for", ttl=ttl, backend=backend)
    with lock:
        with _holder(process_backend_url, "waited-for", ttl, tmp_path) as waiter:
            assert eventually(lambda: backend.inspect("waited-for").waiters, within=10)
            waiter.kill()
        lock.__exit__(None, None, None)
        began = time.monotonic()
        lock.acquire(timeout=ttl + GRANT_TTL + 5).release()
        assert time.monotonic() - began < min(ttl, GRANT_TTL) + 0.7
    backend.close()


def test_hammered_and_killed_for_seconds_no_two_sections_overlap(process_backend_url, tmp_path):
    _hammer(process_backend_url, tmp_path, seconds=6.0)


@pytest.mark.soak
@pytest.mark.timeout(180)
def test_hammered_and_killed_for_a_minute_no_two_sections_overlap(process_backend_url, tmp_path):
    _hammer(process_backend_url, tmp_path, seconds=60.0)


def _enter(pid: int, token: int, at: float, ttl: float = 1.0) -> Record:
    return Record("enter", pid, token, at, at + ttl)


def _leave(pid: int, token: int, at: float, ttl: float = 1.0) -> Record:
    return Record("leave", pid, token, at, at + ttl)


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ([_enter(1, 1, 10.0), _enter(2, 2, 10.2), _leave(1, 1, 10.4), _leave(2, 2, 10.5)], "before the end of"),
        ([_enter(1, 1, 10.0), _enter(2, 2, 10.9), _leave(2, 2, 11.0)], "before the end of"),
        ([_enter(1, 5, 10.0), _leave(1, 5, 10.1), _enter(2, 4, 10.2), _leave(2, 4, 10.3)], "not larger"),
        ([_enter(1, 5, 10.0), _leave(1, 5, 10.1), _enter(2, 5, 10.2), _leave(2, 5, 10.3)], "not larger"),
        ([_enter(3, 1, 10.0)], "was not killed"),
    ],
    ids=["overlap", "killed but not expired", "token back", "token twice", "no end"],
)
def test_the_checker_finds_a_planted_violation(records, complaint):
    assert any(complaint in found for found in check(records, killed={1}).complaints)


def test_the_checker_has_nothing_against_what_is_right():
    records = [
        _enter(1, 1, 10.0),
        _leave(1, 1, 10.1),
        _enter(2, 2, 10.1),  # killed
        _enter(3, 4, 11.1),
        _leave(3, 4, 11.2),
    ]
    verdict = check(records, killed={2})
    assert verdict.complaints == ()
    assert (verdict.completed, verdict.cut_short, verdict.outlived) == (2, 1, 0)


def test_the_checker_finds_what_a_lock_that_does_not_lock_lets_through(tmp_path):
    """The memory backend knows nothing of other processes: hammered from several, it must be found out."""
    with pytest.raises(AssertionError, match="before the end of"):
        _hammer("memory://", tmp_path, seconds=1.5)


def _hammer(url: str, folder: Path, seconds: float) -> None:
    random.seed(0)
    ttl = _ttl(url)
    crew = [_start(url, folder, ttl) for _ in range(PROCESSES)]
    killed = set()
    try:
        assert eventually(lambda: _pids_seen(folder) == {each.pid for each in crew}, within=20)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(1.0)
            victim = _victim(crew, folder)
            victim.kill()
            killed.add(victim.pid)
            crew[crew.index(victim)] = _start(url, folder, ttl)
        (folder / "stop").touch()
        for each in crew:
            assert each.wait(PROCESSES * ttl + 20) == 0, each.log()
    finally:
        for each in crew:
            each.kill()
    _judge(url, folder, killed, ttl, seconds)


def _judge(url: str, folder: Path, killed: set[int], ttl: float, seconds: float) -> None:
    verdict = check(read(folder / "journal"), killed)
    assert not verdict.complaints, "\n".join(verdict.complaints[:5])
    print(verdict, f"counted {counted(folder)}, {len(killed)} killed, {verdict.completed / seconds:.0f} sections/s")
    assert len(killed) >= int(seconds / 1.5)
    assert verdict.completed > 10 * seconds / ttl
    lost_updates = verdict.completed - counted(folder)
    assert -verdict.cut_short - verdict.outlived <= lost_updates <= (verdict.outlived and 10 * verdict.outlived)
    backend = connect(url)
    assert eventually(lambda: not backend.inspect(NAME).holders, within=ttl + GRANT_TTL)
    with Lock(NAME, backend=backend).acquire(blocking=False):
        pass
    backend.close()


def _victim(crew: list[ChildProcess], folder: Path) -> ChildProcess:
    """One that is inside its section, if one can be caught there; else any."""
    eventually(lambda: _inside(crew, folder), within=0.5, every=0.001)
    return random.choice(_inside(crew, folder) or crew)


def _inside(crew: list[ChildProcess], folder: Path) -> list[ChildProcess]:
    what, pid = _last_line(folder / "journal").split()[:2]
    return [each for each in crew if what == "enter" and each.pid == int(pid)]


def _last_line(journal: Path) -> str:
    with journal.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1000))
        return file.read().decode().rpartition("\n")[0].splitlines()[-1]


def _start(url: str, folder: Path, ttl: float) -> ChildProcess:
    command = [sys.executable, "-m", "tests.hammer", url, str(folder), str(ttl)]
    return ChildProcess(command, log=folder / "log")


def _pids_seen(folder: Path) -> set[int]:
    journal = folder / "journal"
    return {record.pid for record in read(journal)} if journal.exists() else set()


@contextmanager
def _holder(url: str, name: str, ttl: float, folder: Path) -> Iterator[ChildProcess]:
    command = [sys.executable, "-m", "tests.hold", url, name, str(ttl)]
    child = ChildProcess(command, log=folder / f"{name}.log")
    try:
        yield child
    finally:
        child.kill()


def _token(holder: ChildProcess) -> int:
    assert eventually(lambda: holder.log().startswith("token") and "\n" in holder.log(), within=10), holder.log()
    return int(holder.log().split()[1])


def _ttl(url: str) -> float:
    return max(TTL, connect(url).capabilities.min_ttl)
