"""Free tasks in a queue in which every second task waits for a lock: what is left to them of their throughput."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import mean
from typing import Any

from benchmarks.admission_stage import Stage, Way, middle, per_second, prepared
from benchmarks.plan import Plan
from tasklocks import Lock

__all__ = ["mixed"]


def mixed(plan: Plan, way: Way) -> Iterator[dict[str, Any]]:
    """Yield a row for a lock that is held elsewhere all the time, and one for a mutex that the others take in turn.

    All is sent before the workers may begin, so that sending takes nothing from them. Each mixture is compared with the
    free tasks alone right before it and right after it.
    """
    with prepared(plan, way, pool="prefork", concurrency=2) as stage:
        count, hold = min(plan.scale.tasks, 400), plan.scale.hold
        alone = [_alone(stage, count, hold)]
        for scenario, mixture in _MIXTURES.items():
            free, others = mixture(stage, count, hold)
            stage.begin_again()
            alone.append(_alone(stage, count, hold))
            # A place that another one takes cannot be theirs: it is as if one free task less had run.
            kept = free / (mean(alone[-2:]) - others)
            yield {"scenario": scenario, "way": way.name, "tasks": count, "efficiency": kept, "per_second": free}


def _alone(stage: Stage, count: int, hold: float) -> float:
    """Return how many free tasks end in a second if there are no others."""
    with stage.paused():
        stage.send([(stage.tasks.free, number, hold) for number in range(count)])
    stage.wait_for(count)
    rate = per_second(_ends(stage, _is_free))
    stage.begin_again()
    return rate


def _among_waiting(stage: Stage, count: int, hold: float) -> tuple[float, float]:
    """Return how many free tasks end in a second among as many that wait, and how many of those."""
    with Lock("held", backend=stage.locks):
        with stage.paused():
            calls = (((stage.tasks.waiting,), (stage.tasks.free, number, hold)) for number in range(count))
            stage.send([call for pair in calls for call in pair])
        stage.wait_for(count)
    free = per_second(_ends(stage, _is_free))
    stage.wait_for(count, "waiting")
    return free, 0.0


def _beside_mutex(stage: Stage, count: int, hold: float) -> tuple[float, float]:
    """Return the same among as many that take a mutex in turn."""
    with stage.paused():
        calls = (((stage.tasks.one, -1, hold), (stage.tasks.free, number, hold)) for number in range(count))
        stage.send([call for pair in calls for call in pair])
    stage.wait_for(count, free=True)
    ends = _ends(stage, _is_free)
    first, *_, last = middle(ends)
    others = sum(first < end <= last for end in _ends(stage, lambda number: number < 0)) / (last - first)
    stage.wait_for(2 * count)
    return per_second(ends), others


_MIXTURES = {
    "free tasks among as many that wait": _among_waiting,
    "free tasks among as many behind a mutex": _beside_mutex,
}


def _is_free(number: int) -> bool:
    return number >= 0


def _ends(stage: Stage, chosen: Callable[[int], bool]) -> list[float]:
    return [fact["at"] for fact in stage.record.facts("end", "task") if chosen(fact["number"])]
