"""`herd`: what goes over the wire for one release when many wait for it, as counted by a relay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.contestants import Contestant
from benchmarks.plan import Plan
from tests.herd import Herd, Traffic, herd
from tests.relay import relayed

__all__ = ["measure"]

_RELEASES = 50
_PER_PROCESS = 1000
_SPACE = 900  # not one that another comparison uses


def measure(plan: Plan) -> list[dict[str, Any]]:
    """Return a row for each store with a server and each number of waiters."""
    stores = [each for each in plan.ours() if plan.stores[each.store].port is not None]
    return [row for each in stores for row in _on(plan, each)]


def _on(plan: Plan, contestant: Contestant) -> Iterator[dict[str, Any]]:
    url, releases = plan.stores[contestant.store].another(_SPACE), min(_RELEASES, plan.scale.permits // 4)
    with (
        TemporaryDirectory() as folder,
        relayed(url) as (relay, behind_it),
        herd(behind_it, relay, capacity=plan.scale.permits, folder=Path(folder)) as waiting,
    ):
        standing = 0
        for waiters in plan.scale.waiters:
            _join(waiting, waiters + releases - standing)
            yield _row(contestant, plan.scale.permits, waiters, waiting.release(releases))
            standing = waiters


def _join(waiting: Herd, count: int) -> None:
    for left in range(count, 0, -_PER_PROCESS):
        waiting.join(min(left, _PER_PROCESS))


def _row(contestant: Contestant, permits: int, waiters: int, traffic: Traffic) -> dict[str, Any]:
    return {
        "store": contestant.store,
        "contestant": contestant.name,
        "role": contestant.role,
        "permits": permits,
        "waiters": waiters,
        "requests": traffic.requests,
        "messages": traffic.messages,
        "kilobytes": traffic.size / 1000,
    }
