"""What a backend says of itself in its `capabilities`, held against what it does.

`strict_order` is held against it wherever waiters are served in order, `push` wherever one hears of its lease.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasklocks import clock, connect
from tasklocks.backends import Backend
from tasklocks.testing.asking import LONG, NAME, Line, Waiting, free, held, taken

HOUR = 3600.0
_HOLDERS = (
    "import sys; from tasklocks import connect; print(connect(sys.argv[1]).inspect(sys.argv[2]).holders[0].owner)"
)


def test_a_waiter_is_woken_without_asking_if_and_only_if_the_backend_pushes(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    waiter = line.join("waiter")
    # An ear that has just been opened may say once that something could have been missed.
    assert any(not _woken(waiter, within=0.4) for _ in range(5)), "wakes its waiter all the time"
    backend.release(NAME, "holder")
    assert _woken(waiter, within=3.0) is backend.capabilities.push


@pytest.mark.parametrize("error", [HOUR, -HOUR], ids=["fast", "slow"])
def test_a_worker_with_a_wrong_clock_keeps_and_ends_no_lease_early_or_late(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, error: float
) -> None:
    taken(backend, "right")
    with _clock_off_by(monkeypatch, error):
        seen = held(backend)
        wrong = taken(backend, "wrong", "its own")
        assert backend.renew([wrong])[0] is not None
    assert seen.retry_after is not None
    assert 0 < seen.retry_after <= LONG
    (holder,) = backend.inspect("its own").holders
    assert LONG - 10 < holder.expires_in <= LONG
    assert backend.inspect(NAME).holders[0].owner == "right"


def test_tokens_of_a_worker_with_a_wrong_clock_grow_like_those_of_others(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = []
    for turn, error in enumerate([0.0, HOUR, 0.0, -HOUR, 0.0]):
        with _clock_off_by(monkeypatch, error):
            tokens.append(taken(backend, f"owner-{turn}").fencing_token)
            backend.release(NAME, f"owner-{turn}")
    assert tokens == sorted(set(tokens))


def test_the_shortest_ttl_is_kept_and_no_longer(backend: Backend) -> None:
    shortest = backend.capabilities.min_ttl
    for _ in range(10):
        grant = taken(backend, "a", ttl=shortest)
        time.sleep(max(0.0, grant.deadline - clock.now() - shortest / 3))
        still_held = not free(backend)
        if clock.now() < grant.deadline:  # else this process was too slow to tell
            break
        backend.release(NAME, "a")
    assert still_held
    time.sleep(max(0.0, grant.deadline - clock.now()) + 0.25)
    assert free(backend)


def test_a_process_that_shares_nothing_but_the_url_sees_the_same_limits(
    process_backend_url: str, tmp_path: Path
) -> None:
    backend = connect(process_backend_url)
    taken(backend, "we")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environ = {"PATH": os.defpath, "HOME": str(elsewhere), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "error", "-c", _HOLDERS, process_backend_url, NAME]
    seen = subprocess.run(command, cwd=elsewhere, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (seen.stdout, seen.stderr) == ("we\n", "")
    backend.close()


def _woken(waiter: Waiting, *, within: float) -> bool:
    """Whether the waiter's sleep ends early."""
    began = time.monotonic()
    waiter.listener.wait(within, waiter.busy)
    return time.monotonic() - began < 0.8 * within


@contextmanager
def _clock_off_by(monkeypatch: pytest.MonkeyPatch, error: float) -> Iterator[None]:
    """Let this process's wall clock be wrong for a moment."""
    right, right_ns = time.time, time.time_ns
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: right() + error)
        patch.setattr(time, "time_ns", lambda: right_ns() + int(error * 1e9))
        yield
