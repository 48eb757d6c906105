"""`renewal`: what it costs to keep leases alive that nobody touches, in one process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.contestants import Contestant
from benchmarks.plan import Plan
from benchmarks.processes import partner
from benchmarks.stores import through
from benchmarks.wire import RoundTrips

__all__ = ["measure"]

_TTL = 3
"""Seconds that each lease lasts: the shortest that every store can keep, for a short run must see renewals."""

_ROUNDS = 1.4
"""How many ttls are watched at the least: in each of them every lease is renewed at least once."""


def measure(plan: Plan) -> list[dict[str, Any]]:
    """Return a row for each number of leases and each contestant that renews."""
    renewing = [each for each in plan.contestants if each.keep]
    return [_row(plan, each, count) for count in plan.scale.leases for each in renewing]


def _row(plan: Plan, contestant: Contestant, count: int) -> dict[str, Any]:
    seconds = max(plan.scale.seconds, _ROUNDS * _TTL)
    threads, cpu, trips = _watch(plan, contestant, count, seconds)
    return {
        "store": contestant.store,
        "contestant": contestant.name,
        "role": contestant.role,
        "leases": count,
        "threads": threads,
        "trips_per_second": None if trips is None else trips / seconds,
        "cpu_ms_per_second": 1e3 * cpu / seconds,
    }


def _watch(plan: Plan, contestant: Contestant, count: int, seconds: float) -> tuple[int, float, int | None]:
    """Return the threads, the processor time and the round trips that `count` leases take."""
    store = plan.stores[contestant.store]
    with ExitStack() as stack:
        wire = stack.enter_context(RoundTrips(store.port)) if store.port is not None else None
        url = through(store, wire.port) if wire else store.url
        names = [f"{number} of {count}, {contestant.name}" for number in range(count)]
        keeper = stack.enter_context(partner(_keep, contestant.keep, url, names, _TTL))
        keeper.recv()
        before = wire.count if wire else 0
        time.sleep(seconds)
        trips = wire.count - before if wire else None
        keeper.send("tell")
        return (*keeper.recv(), trips)


def _keep(
    watcher: Connection, keep: Callable[[str, str, float], object], url: str, names: Sequence[str], ttl: float
) -> None:
    before = threading.active_count()
    held = [keep(url, name, ttl) for name in names]
    cpu = time.process_time()
    watcher.send("all held")
    watcher.recv()
    watcher.send((threading.active_count() - before, time.process_time() - cpu))
    del held
