"""Two workers for `admission`, on an empty broker and with empty locks, and what can be read off their record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.plan import Plan
from tests.apps.record import Record
from tests.processes import eventually
from tests.workers import Worker, settings, start_worker

__all__ = ["ADMISSION", "LOCKS", "ON_REDIS", "Stage", "Way", "middle", "per_second", "prepared"]

_BROKER, _RESULTS, LOCKS = 901, 902, 903  # not those that another comparison uses
_PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class Way:
    """How the tasks wait.

    Attributes:
        name: in the table.
        conf: Celery settings.
        part: of all the tasks that are sent; the slow ways get fewer.
    """

    name: str
    conf: Mapping[str, Any]
    part: float = 1.0


ADMISSION = Way("admission", {"tasklocks_admission": True})

ON_REDIS = "redis"
"""The store whose server is also the broker."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Two running workers.

    Attributes:
        workers: both.
        record: what their tasks noted.
        locks: the URL of their locks.
    """

    workers: Sequence[Worker]
    record: Record
    locks: str

    @property
    def tasks(self) -> Any:
        """The app's module: `stage.tasks.one.delay(…)`."""
        return self.workers[0].tasks

    def send(self, calls: Sequence[tuple[Any, ...]]) -> None:
        """Send a task and its arguments, for each, over one connection."""
        with self.workers[0].app.producer_or_acquire() as producer:
            for task, *arguments in calls:
                task.apply_async(arguments, producer=producer)

    def begin_again(self) -> None:
        """Forget what was noted."""
        self.record.path.write_text("")

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Freeze the workers, so that sending costs them nothing."""
        for worker in self.workers:
            worker.pause()
        try:
            yield
        finally:
            for worker in self.workers:
                worker.resume()

    def wait_for(self, ends: int, key: str = "task", within: float = _PATIENCE, *, free: bool = False) -> bool:
        """Wait until so many tasks have ended; False: not within that time, in seconds.

        Args:
            ends: how many.
            key: of what was noted.
            within: seconds.
            free: count those only that are behind no limit.
        """
        seen = 0
        # Only what is new is read: the machine has other things to do.
        with self.record.path.open() as lines:

            def all_ended() -> bool:
                nonlocal seen
                facts = (json.loads(line) for line in lines)
                own = (fact for fact in facts if fact["kind"] == "end" and fact["key"] == key)
                seen += sum(not free or fact["number"] >= 0 for fact in own)
                return seen >= ends

            return bool(eventually(all_ended, within=within, every=0.5))

    def memory(self) -> float:
        """Return what the larger of the main processes took at the most so far, in megabytes."""
        return max(_most_resident(worker.pid) for worker in self.workers)


@contextmanager
def prepared(plan: Plan, way: Way, *, pool: str, concurrency: int) -> Iterator[Stage]:
    """Run two workers with empty locks and an empty queue."""
    broker, results, locks = (plan.stores[ON_REDIS].another(number) for number in (_BROKER, _RESULTS, LOCKS))
    _empty(broker, results, locks)
    with TemporaryDirectory() as folder:
        record = Record(Path(folder) / "record.jsonl")
        env = {"TEST_RECORD": str(record.path), "C_FORCE_ROOT": "1"}
        chosen = settings("benchmarks.queueing", broker=broker, backend=results, locks=locks, env=env, **way.conf)
        first = start_worker(chosen, pool=pool, concurrency=concurrency)
        second = start_worker(chosen, pool=pool, concurrency=concurrency, tasks=first.tasks)
        try:
            yield Stage((first, second), record, locks)
        finally:
            first.kill()
            second.kill()
            first.app.close()


def per_second(ends: Sequence[float]) -> float:
    """Return how many ended in a second, in the middle."""
    within = middle(ends)
    return (len(within) - 1) / (within[-1] - within[0])


def middle(ends: Sequence[float]) -> Sequence[float]:
    """Return the ends without the first and the last tenth: there not all places are taken."""
    tenth = max(1, len(ends) // 10)
    return sorted(ends)[tenth - 1 : len(ends) - tenth]


def _empty(*urls: str) -> None:
    from redis import Redis

    for url in urls:
        with Redis.from_url(url) as client:
            client.flushdb()


def _most_resident(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
