"""`handoff`: how long a freed mutex lies idle although somebody waits for it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.contestants import Contestant
from benchmarks.measure import percentile
from benchmarks.pair import Pair
from benchmarks.plan import Plan
from benchmarks.processes import partner

__all__ = ["measure"]

_HOLD = (0.02, 0.12)
"""Seconds; as wide as the usual polling interval of 100 ms, so that nobody polls at a lucky moment each time."""


def measure(plan: Plan) -> list[dict[str, Any]]:
    """Return a row for each contestant that can wait; they take turns."""
    waiting = [each for each in plan.contestants if each.waits]
    with ExitStack() as stack:
        pairs = {each.name: _pair_of_processes(stack, plan, each) for each in waiting}
        delays = _in_turns(pairs, plan.scale.handoffs)
    return [_row(each, delays[each.name]) for each in waiting]


def _pair_of_processes(stack: ExitStack, plan: Plan, contestant: Contestant) -> tuple[Pair, Connection]:
    url, name = plan.url(contestant), f"handed from {contestant.name}"
    waiter = stack.enter_context(partner(_wait, contestant.make, url, name))
    return contestant.make(url, name), waiter


def _in_turns(pairs: Mapping[str, tuple[Pair, Connection]], count: int) -> dict[str, list[float]]:
    delays: dict[str, list[float]] = {name: [] for name in pairs}
    for number in range(count + 1):
        for name, (holder, waiter) in pairs.items():
            delay = _hand_over(holder, waiter)
            # The first one makes the connections.
            if number:
                delays[name].append(delay)
    return delays


def _hand_over(holder: Pair, waiter: Connection) -> float:
    holder.acquire(True)
    waiter.send("wait for it")
    time.sleep(random.uniform(*_HOLD))
    before = time.monotonic()
    holder.release()
    entered: float = waiter.recv()
    return entered - before


def _wait(holder: Connection, make: Callable[[str, str], Pair], url: str, name: str) -> None:
    pair = make(url, name)
    # The connection ends with the run.
    with suppress(EOFError):
        while holder.recv():
            pair.acquire(True)
            # The clock of the host, the same one for both processes.
            entered = time.monotonic()
            pair.release()
            holder.send(entered)


def _row(contestant: Contestant, delays: list[float]) -> dict[str, Any]:
    return {
        "store": contestant.store,
        "contestant": contestant.name,
        "role": contestant.role,
        "handoffs": len(delays),
        "p50_ms": 1e3 * percentile(delays, 0.5),
        "p99_ms": 1e3 * percentile(delays, 0.99),
        "longest_ms": 1e3 * max(delays),
    }
