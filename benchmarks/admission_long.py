"""A queue that is much longer than what workers hold: whether they are as fast as with a short one, and stay small."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import mean
from typing import Any

from benchmarks.admission_stage import ADMISSION, Stage, per_second, prepared
from benchmarks.plan import Plan

__all__ = ["long_queues"]

_HOLD = 0.001
_SHORT = 1000


def long_queues(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield a row for a thousand tasks of a millisecond under one mutex, and one for many more.

    The short queue is measured before and after the long one, which may be cut off before its end.
    """
    few, many = min(_SHORT, plan.scale.line), plan.scale.line
    before, long = _run(plan, few, many)
    (after,) = _run(plan, few)
    short = mean((before["per_second"], after["per_second"]))
    yield before | {"efficiency": 1.0, "per_second": short}
    yield long | {"efficiency": long["per_second"] / short}


def _run(plan: Plan, *counts: int) -> list[dict[str, Any]]:
    """Return a row for each number of tasks, all in the same workers."""
    with prepared(plan, ADMISSION, pool="prefork", concurrency=2) as stage:
        return [_row(stage, count, plan.scale.line_seconds) for count in counts]


def _row(stage: Stage, count: int, seconds: float) -> dict[str, Any]:
    stage.begin_again()
    with stage.paused():
        stage.send([(stage.tasks.one, number, _HOLD) for number in range(count)])
    stage.wait_for(count, within=seconds)
    memory = stage.memory()
    ends = [fact["at"] for fact in stage.record.facts("end", "task")]
    return {
        "scenario": f"{count} tasks of 1 ms in the queue",
        "way": ADMISSION.name,
        "tasks": len(ends),
        "executions": stage.record.count("execution", "task") / len(ends),
        "most": stage.record.most_at_once("task"),
        "per_second": per_second(ends),
        "memory": memory,
    }
