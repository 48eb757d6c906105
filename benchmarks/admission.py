"""`admission`: many tasks behind one limit, on two workers: with admission, and with the lease in the task's body.

Efficiency is the time that the permits would need without a pause, over the time from the first send to the last end;
of free tasks it is what they keep of their throughput, and of a long queue what it keeps of that of a short one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.admission_long import long_queues
from benchmarks.admission_mixed import mixed
from benchmarks.admission_stage import ADMISSION, ON_REDIS, Stage, Way, prepared
from benchmarks.contestants import Contestant
from benchmarks.plan import Plan

__all__ = ["measure", "tau"]

_ADAPTIVE = Way("body, adaptive countdown", {}, 0.2)
_BODY = (
    _ADAPTIVE,
    Way("body, countdown 0.1", {"tasklocks_countdown": 0.1}, 0.1),
    Way("body, countdown 1", {"tasklocks_countdown": 1.0}, 0.1),
    Way("body, countdown 5", {"tasklocks_countdown": 5.0}, 0.1),
)
_WARM = 20  # tasks that run first: each process, connection and script is there then


def measure(plan: Plan) -> list[dict[str, Any]]:
    """Return a row for each way and kind of limit; the broker and the locks are on the Redis of the run."""
    return [row for each in plan.ours() if each.store == ON_REDIS for row in _on(plan, each)]


def _on(plan: Plan, contestant: Contestant) -> Iterator[dict[str, Any]]:
    who = {"store": contestant.store, "contestant": contestant.name, "role": contestant.role}
    for row in _rows(plan):
        yield who | row


def _rows(plan: Plan) -> Iterator[dict[str, Any]]:
    ways = _BODY[: plan.scale.ways]
    for way in (ADMISSION, *ways):
        with prepared(plan, way, pool="prefork", concurrency=2) as stage:
            yield _row(stage, "mutex, 2 x 2 processes", stage.tasks.one, way, plan, lanes=1)
    for way in (ADMISSION, *ways[:1]):
        with prepared(plan, way, pool="threads", concurrency=8) as stage:
            yield _row(stage, "semaphore of 10, 2 x 8 threads", stage.tasks.ten, way, plan, lanes=10)
    for way in (ADMISSION, *ways[:1]):
        yield from mixed(plan, way)
    yield from long_queues(plan)


def _row(stage: Stage, scenario: str, task: Any, way: Way, plan: Plan, lanes: int) -> dict[str, Any]:
    tasks, hold, record = max(2, int(plan.scale.tasks * way.part)), plan.scale.hold, stage.record
    _run(stage, task, min(_WARM, tasks), plan.scale.hold / 5)
    stage.begin_again()
    took = _run(stage, task, tasks, hold)
    begun = [fact["number"] for fact in record.facts("begin", "task")]
    return {
        "scenario": scenario,
        "way": way.name,
        "tasks": tasks,
        "efficiency": tasks * hold / lanes / took,
        "executions": record.count("execution", "task") / tasks,
        "messages": record.count("message", "task") / tasks,
        "tau": tau(begun),
        "most": record.most_at_once("task"),
        "per_second": tasks / took,
        "memory": stage.memory(),
    }


def _run(stage: Stage, task: Any, tasks: int, hold: float) -> float:
    """Send the tasks; return the seconds from the first send to the last end."""
    began = time.monotonic()
    stage.send([(task, number, hold) for number in range(tasks)])
    if not stage.wait_for(tasks):
        raise RuntimeError(f"{stage.record.count('end', 'task')} of {tasks} tasks ended")
    return float(stage.record.facts("end", "task")[-1]["at"]) - began


def tau(order: Sequence[int]) -> float:
    """Return Kendall's rank correlation of the order with that of the numbers: 1 if all came in their turn."""
    pairs = len(order) * (len(order) - 1) / 2
    wrong = sum(earlier > later for place, later in enumerate(order) for earlier in order[:place])
    return 1 - 2 * wrong / pairs if pairs else 1.0
