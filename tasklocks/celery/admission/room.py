"""The places of the pool: how many there are, whether some are free, and how a task gets one."""

from __future__ import annotations

from typing import Any

from celery.worker import state

from tasklocks import clock

__all__ = ["Room"]

_TURNS = 1.0  # seconds; a full pool in which nothing has started for so long may stay full for long


class Room:
    """The pool of one worker, as the event loop sees it.

    Args:
        consumer: Celery's.
        process: what gives a request to the pool.
    """

    def __init__(self, consumer: Any, process: Any) -> None:
        self._consumer = consumer
        self._process = process
        self._started = -1
        self._started_at = 0.0

    @property
    def places(self) -> int:
        """How many tasks the pool can run at once."""
        return int(self._consumer.pool.num_processes or 1)

    @property
    def stuck(self) -> bool:
        """Whether all places are taken, by tasks that may take long. Asked a few times a second."""
        now = clock.now()
        started = state.all_total_count[0]
        if started != self._started or len(state.reserved_requests) < self.places:
            self._started, self._started_at = started, now
        return now > self._started_at + _TURNS

    def pass_on(self, request: Any) -> None:
        """Give a task to the pool as Celery does."""
        self._process(request)

    def put_first(self, request: Any) -> None:
        """Give a task to the pool before those that wait for a place in it: it holds what others wait for."""
        controller = self._consumer.controller
        semaphore = controller.semaphore
        if semaphore is None or semaphore.value > 0 or not controller.pool_cls.uses_semaphore:
            self._process(request)
            return
        # Past the semaphore; the pool has a short line of its own behind it. The place that this task gives back at its
        # end is taken once more, or every such task would let one more of the others in.
        controller._process_task(request)
        semaphore.acquire(_nothing)


def _nothing() -> None:
    pass
