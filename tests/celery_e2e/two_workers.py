"""A second worker beside that of a stage, and what both hold; the fixture `second` starts it beside a stage `pair`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.workers import Worker, start_worker

if TYPE_CHECKING:
    from tests.celery_e2e.conftest import Stage

__all__ = ["held_by_workers", "started_again"]


@contextmanager
def started_again(stage: Stage) -> Iterator[Worker]:
    """Run one more worker with two processes; it is killed at the end, which takes less time than to stop it."""
    worker = start_worker(stage.worker.settings, tasks=stage.worker.tasks, concurrency=2)
    try:
        yield worker
    finally:
        worker.kill()


def held_by_workers(stage: Stage, workers: int = 2) -> int:
    """How many messages so many workers have in their memory."""
    inspect = stage.worker.app.control.inspect(timeout=5, limit=workers)
    both = [*(inspect.scheduled() or {}).values(), *(inspect.reserved() or {}).values()]
    return sum(len(each) for each in both)
