"""Takes two limits over and over until told to stop: `python -m tests.storm.hammer URL FOLDER TTL`.

Each section of the mutex adds one to a number by reading it, pausing and writing it, which goes wrong as soon as two do
it at once; the store refuses what comes too late. The other limit has permits for some at a time.
"""

from __future__ import annotations

import faulthandler
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from tasklocks import BackendUnavailable, Lease, Lock, LockBusy, Semaphore, clock, connect
from tests.storm.recording import Recording
from tests.storm.records import Journal
from tests.storm.store import Store

__all__ = ["CAPACITIES", "MUTEX", "SHARED"]

MUTEX = "alone"
SHARED = "some-at-a-time"
CAPACITIES = {MUTEX: 1, SHARED: 3}

_LONG = 0.02  # the part of sections that outlast their first deadlines


def main(url: str, folder: Path, ttl: float) -> None:
    faulthandler.register(signal.SIGUSR1)  # where it hangs, if it does
    journal, store = Journal(folder / "journal"), Store(folder / "store")
    backend = Recording(connect(url), journal)
    limits = [Lock(MUTEX, ttl=ttl, backend=backend)]
    limits += [Semaphore(SHARED, CAPACITIES[SHARED], permits=n, ttl=ttl, backend=backend) for n in (1, 2)]
    while not (folder / "stop").exists():
        patience = random.uniform(1, 6) * ttl
        with suppress(LockBusy, BackendUnavailable), random.choice(limits).acquire(timeout=patience) as lease:
            _section(lease, ttl, journal, store)


def _section(lease: Lease, ttl: float, journal: Journal, store: Store) -> None:
    if lease.name != MUTEX:
        _work(lease, _pause(ttl), journal)
        return
    value = store.claim(lease.name, lease.fencing_token)
    _work(lease, _pause(ttl), journal)
    # Whether its lease is lost or not: what counts is that the store knows.
    wrote = value is not None and store.write(lease.name, value + 1, lease.fencing_token)
    journal.note("wrote" if wrote else "refused", lease.grant)


def _pause(ttl: float) -> float:
    return random.uniform(0, 1.5 * ttl if random.random() < _LONG else 0.004)


def _work(lease: Lease, seconds: float, journal: Journal) -> None:
    end = time.monotonic() + seconds
    _look(lease, journal)
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.02))
        _look(lease, journal)


def _look(lease: Lease, journal: Journal) -> None:
    asked = clock.now()
    if not lease.lost:
        journal.note("sure", lease.grant, asked)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
