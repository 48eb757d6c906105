"""`rates`: processes that ask one rate limit as fast as they can; how much of it they get, and never more.

Each process writes down the moments that the backend reserved for it, on the backend's clock. What is judged is all of
these together, and the state that the backend has kept itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.contestants import Contestant
from benchmarks.plan import Plan
from benchmarks.processes import together
from benchmarks.starts import tally
from tasklocks import clock, connect
from tasklocks.backends import Backend
from tasklocks.rates import RateState
from tasklocks.types import Pace, ReserveRequest, Slot

__all__ = ["measure"]

_PROCESSES = 8
_PATIENCE = 60.0
_LEAD = 1.2
"""Seconds beyond those that count: most of a window may pass before the first whole one."""


@dataclass(frozen=True, slots=True)
class _Way:
    """One limit, and how it is asked.

    Attributes:
        name: of the limit.
        asking: in words.
        pace: what it promises.
        waits: reserve and wait for the start, as `RateLimit.acquire` does; else ask for a start now, again and again.
    """

    name: str
    asking: str
    pace: Pace
    waits: bool = False

    @property
    def request(self) -> ReserveRequest:
        return ReserveRequest(self.name, (self.pace,), 1.0, None if self.waits else 0.0)


_WAYS = (
    _Way("even", "gcra, 100/s, waiting", Pace(100, 1.0), waits=True),
    _Way("bursting", "gcra, 100/s, burst 50", Pace(100, 1.0, burst=50)),
    _Way("sliding", "sliding, 100/s", Pace(100, 1.0, algorithm="sliding")),
    _Way("fixed", "fixed, 100/s", Pace(100, 1.0, algorithm="fixed")),
)


@dataclass(frozen=True, slots=True)
class _Result:
    """What one process saw: how often it asked, and the starts that it got."""

    asked: int
    starts: list[float]


def measure(plan: Plan) -> list[dict[str, Any]]:
    """Return a row for each store that processes can share, and each way to ask."""
    shared = [each for each in plan.ours() if each.store != "memory"]
    return [row for each in shared for row in _on(plan, each)]


def _on(plan: Plan, contestant: Contestant) -> Iterator[dict[str, Any]]:
    url, seconds = plan.url(contestant), plan.scale.rate_seconds
    for way in _WAYS:
        arguments = [(url, way, seconds + _LEAD)] * _PROCESSES
        results: list[_Result] = together(_ask, arguments, within=seconds + _PATIENCE)
        yield _row(contestant, way, results, connect(url), seconds)


def _row(contestant: Contestant, way: _Way, results: list[_Result], backend: Backend, seconds: float) -> dict[str, Any]:
    starts = [start for each in results for start in each.starts]
    seen = tally(way.pace, starts, _kept(backend, way.name), seconds)
    return {
        "store": contestant.store,
        "contestant": contestant.name,
        "role": contestant.role,
        "asking": way.asking,
        "processes": len(results),
        "seconds": seconds,
        "asked_per_second": sum(each.asked for each in results) / (seconds + _LEAD),
        "admitted": seen.admitted,
        "share": seen.share,
        "fullest": seen.fullest,
        "state": "agrees" if seen.agrees else "differs",
    }


def _kept(backend: Backend, name: str) -> Any:
    """Return what the backend's own state has counted."""
    return RateState.read(backend.update(name, lambda text, now: (text, 0.0, text))).counted[0]


def _ask(gate: Any, url: str, way: _Way, seconds: float) -> _Result:
    backend, starts, asked = connect(url), [], 0
    # Connections are made before the start.
    backend.update("nothing", lambda text, now: (text, 0.0, None))
    gate.wait()
    end = clock.now() + seconds
    while clock.now() < end:
        answer = backend.reserve(way.request)
        asked += 1
        if isinstance(answer, Slot):
            starts.append(answer.start)
            time.sleep(answer.wait)
    return _Result(asked, starts)
