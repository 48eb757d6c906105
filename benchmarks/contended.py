"""`contended`: processes that want one mutex all the time and hold it for no time; how many get in, how evenly."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.board import Board
from benchmarks.contestants import Contestant
from benchmarks.measure import percentile
from benchmarks.pair import Pair
from benchmarks.plan import Plan
from benchmarks.processes import together

__all__ = ["measure"]

_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class _Result:
    """What one process saw.

    Attributes:
        sections: critical sections that it finished in time.
        waits: seconds that each acquire took, with the last one, which began in time and ended later.
        overlaps: how often it found somebody else inside.
    """

    sections: int
    waits: Sequence[float]
    overlaps: int


def measure(plan: Plan) -> list[dict[str, Any]]:
    """Return a row for each number of processes and each contestant that can wait."""
    waiting = [each for each in plan.contestants if each.waits]
    return [_row(plan, each, count) for count in plan.scale.processes for each in waiting]


def _row(plan: Plan, contestant: Contestant, count: int) -> dict[str, Any]:
    results = _run(plan, contestant, count)
    sections = [each.sections for each in results]
    waits = [wait for each in results for wait in each.waits]
    return {
        "store": contestant.store,
        "contestant": contestant.name,
        "role": contestant.role,
        "processes": count,
        "per_second": sum(sections) / plan.scale.seconds,
        "fewest": min(sections),
        "most": max(sections),
        "evenness": min(sections) / max(1, *sections),
        "p50_wait_ms": 1e3 * percentile(waits, 0.5),
        "p99_wait_ms": 1e3 * percentile(waits, 0.99),
        "longest_wait_ms": 1e3 * max(waits),
        "overlaps": sum(each.overlaps for each in results),
    }


def _run(plan: Plan, contestant: Contestant, count: int) -> list[_Result]:
    name = f"{count} on {contestant.name}"
    with TemporaryDirectory(prefix="tasklocks-bench-") as folder:
        board = Board.make(Path(folder) / "board")
        arguments = [
            (contestant.make, plan.url(contestant), name, board, number, plan.scale.seconds)
            for number in range(1, count + 1)
        ]
        results: list[_Result] = together(_hammer, arguments, within=plan.scale.seconds + _PATIENCE)
        return results


def _hammer(
    gate: Any, make: Callable[[str, str], Pair], url: str, name: str, path: Path, number: int, seconds: float
) -> _Result:
    pair, board = make(url, name), Board(path)
    # Connections are made before the start.
    pair.acquire(True)
    pair.release()
    gate.wait()
    return _sections(pair, board, number, time.monotonic() + seconds)


def _sections(pair: Pair, board: Board, number: int, end: float) -> _Result:
    waits: list[float] = []
    overlaps = 0
    asked = time.monotonic()
    while asked < end:
        pair.acquire(True)
        entered = time.monotonic()
        overlaps += not board.enter(number)
        overlaps += not board.leave(number)
        pair.release()
        waits.append(entered - asked)
        asked = time.monotonic()
    # The last one ended too late to count.
    return _Result(len(waits) - 1, waits, overlaps)
