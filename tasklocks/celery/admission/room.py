"""The places of the pool: how many there are, whether some are free, and how a task gets one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from celery.worker import state

from tasklocks import clock

__all__ = ["Room"]

_TURNS = 1.0  # seconds; in a full pool in which no task has ended for so long the next may be far away


class Room:
    """The pool of one worker, as the event loop sees it.

    Args:
        consumer: Celery's.
        process: what gives a request to the pool.
        later: what runs a function where Celery talks to the broker.
    """

    def __init__(self, consumer: Any, process: Any, later: Callable[[Callable[[], object]], object]) -> None:
        self._consumer = consumer
        self._process = process
        self.later = later
        self._full = False
        self._ended = 0
        self._free_at = clock.now()
        self._turned_at = -math.inf

    @property
    def places(self) -> int:
        """How many tasks the pool can run at once."""
        return int(self._consumer.pool.num_processes or 1)

    def has_place(self) -> bool:
        """Tell whether a task would start soon: a place is free, or tasks end while all are taken."""
        now = clock.now()
        # Each task that was accepted and runs no more has ended.
        ended = state.all_total_count[0] - len(state.active_requests)
        full = len(state.reserved_requests) >= self.places
        if not full:
            self._free_at = now
        elif self._full and ended != self._ended:
            self._turned_at = now
        self._full, self._ended = full, ended
        return not full or now < self._turned_at + _TURNS

    def stuck_for(self) -> float:
        """Return for how many seconds all places are taken, and no task has ended."""
        return clock.now() - max(self._free_at, self._turned_at)

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
