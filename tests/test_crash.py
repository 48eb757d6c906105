"""Processes are killed and frozen: permits come back within ttl, and who was overtaken is told."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasklocks import Lock, connect
from tasklocks.backends.base import GRANT_TTL
from tests.processes import ChildProcess, eventually

TTL = 1.0


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
