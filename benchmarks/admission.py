"""`admission`: many tasks behind one limit, on two workers: with admission, and with the lease in the task's body.

Efficiency is the time that the permits would need without a pause, over the time from the first send to the last end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.contestants import Contestant
from benchmarks.plan import Plan
from tasklocks import Lock
from tests.apps.record import Record
from tests.processes import eventually
from tests.workers import Worker, settings, start_worker

__all__ = ["measure", "tau"]

_BROKER, _RESULTS, _LOCKS = 901, 902, 903  # not those that another comparison uses
_PATIENCE = 600.0
_LIGHT = 0.01


@dataclass(frozen=True, slots=True)
class Way:
    """How the tasks wait.

    Attributes:
        name: in the table.
        conf: Celery settings.
        part: of all the tasks that are sent; the slow ways get fewer.
    """

    name: str
    conf: dict[str, Any]
    part: float = 1.0


_ADMISSION = Way("admission", {"tasklocks_admission": True})
_BODY = (
    Way("body, adaptive countdown", {}, 0.2),
    Way("body, countdown 0.1", {"tasklocks_countdown": 0.1}, 0.1),
    Way("body, countdown 1", {"tasklocks_countdown": 1.0}, 0.1),
    Way("body, countdown 5", {"tasklocks_countdown": 5.0}, 0.1),
)


def measure(plan: Plan) -> list[dict[str, Any]]:
    """Return a row for each way and kind of limit; the broker and the locks are on the Redis of the run."""
    return [row for each in plan.ours() if each.store == "redis" for row in _on(plan, each)]


def _on(plan: Plan, contestant: Contestant) -> Iterator[dict[str, Any]]:
    who = {"store": contestant.store, "contestant": contestant.name, "role": contestant.role}
    tasks, hold = plan.scale.tasks, plan.scale.hold
    for way in (_ADMISSION, *_BODY[: plan.scale.ways]):
        with _workers(plan, way, pool="prefork", concurrency=2) as (worker, record):
            yield who | _row(worker.tasks.one, record, way, max(2, int(tasks * way.part)), hold, lanes=1)
    with _workers(plan, _ADMISSION, pool="threads", concurrency=8) as (worker, record):
        yield who | _row(worker.tasks.ten, record, _ADMISSION, tasks, hold, lanes=10)
    with _workers(plan, _ADMISSION, pool="prefork", concurrency=2) as (worker, record):
        yield who | _beside_waiting(plan, worker, record)


@contextmanager
def _workers(plan: Plan, way: Way, *, pool: str, concurrency: int) -> Iterator[tuple[Worker, Record]]:
    """Run two workers with empty locks and an empty queue."""
    urls = [plan.stores["redis"].another(number) for number in (_BROKER, _RESULTS, _LOCKS)]
    _empty(urls)
    with TemporaryDirectory() as folder:
        record = Record(Path(folder) / "record.jsonl")
        env = {"TEST_RECORD": str(record.path), "C_FORCE_ROOT": "1"}
        chosen = settings("benchmarks.queueing", broker=urls[0], backend=urls[1], locks=urls[2], env=env, **way.conf)
        first = start_worker(chosen, pool=pool, concurrency=concurrency)
        second = start_worker(chosen, pool=pool, concurrency=concurrency, tasks=first.tasks)
        try:
            yield first, record
        finally:
            first.kill()
            second.kill()
            first.app.close()


def _empty(urls: Sequence[str]) -> None:
    from redis import Redis

    for url in urls:
        with Redis.from_url(url) as client:
            client.flushdb()


def _row(task: Any, record: Record, way: Way, tasks: int, hold: float, lanes: int) -> dict[str, Any]:
    took = _run(task, record, tasks, hold)
    begun = [fact["number"] for fact in record.facts("begin", "task")]
    return {
        "scenario": "mutex, 2 x 2 processes" if lanes == 1 else f"semaphore of {lanes}, 2 x 8 threads",
        "way": way.name,
        "tasks": tasks,
        "efficiency": tasks * hold / lanes / took,
        "executions": record.count("execution", "task") / tasks,
        "messages": record.count("message", "task") / tasks,
        "tau": tau(begun),
        "most": record.most_at_once("task"),
    }


def _run(task: Any, record: Record, tasks: int, hold: float) -> float:
    """Send the tasks; return the seconds from the first send to the last end."""
    began = time.monotonic()
    for number in range(tasks):
        task.delay(number, hold)
    size = 0

    def all_ended() -> bool:
        nonlocal size
        if record.path.stat().st_size == size:
            return False
        size = record.path.stat().st_size
        return record.count("end", "task") >= tasks

    if not eventually(all_ended, within=_PATIENCE, every=0.5):
        raise RuntimeError(f"{record.count('end', 'task')} of {tasks} tasks ended")
    return record.facts("end", "task")[-1]["at"] - began


def _beside_waiting(plan: Plan, worker: Worker, record: Record) -> dict[str, Any]:
    """Run free tasks alone, and then among as many that wait for a lock which is held elsewhere."""
    tasks = plan.scale.tasks
    alone = _run(worker.tasks.free, record, tasks, _LIGHT)
    record.path.write_text("")
    with Lock("held", backend=plan.stores["redis"].another(_LOCKS)):
        for _ in range(tasks // 2):
            worker.tasks.waiting.delay()
        among = _run(_Mixed(worker.tasks.free, worker.tasks.waiting), record, tasks, _LIGHT)
    return {
        "scenario": "free tasks among as many that wait",
        "way": _ADMISSION.name,
        "tasks": tasks,
        "efficiency": alone / among,
    }


class _Mixed:
    """Sends a task that waits with every second free one."""

    def __init__(self, free: Any, waiting: Any) -> None:
        self._free = free
        self._waiting = waiting

    def delay(self, number: int, hold: float) -> None:
        if number % 2:
            self._waiting.delay()
        self._free.delay(number, hold)


def tau(order: Sequence[int]) -> float:
    """Return Kendall's rank correlation of the order with that of the numbers: 1 if all came in their turn."""
    pairs = len(order) * (len(order) - 1) / 2
    wrong = sum(earlier > later for place, later in enumerate(order) for earlier in order[:place])
    return 1 - 2 * wrong / pairs if pairs else 1.0
