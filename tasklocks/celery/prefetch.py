"""The prefetch count of a worker: raised by one for each message that is held, so that what is behind it is reached."""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["Prefetch", "prefetch_of"]


class Prefetch:
    """What was added to the prefetch count of a consumer's current connection, by all who hold messages.

    Args:
        consumer: Celery's. Its `initial_prefetch_count` is the count without what is held, and follows the pool's size.
    """

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        # Without an event loop several threads hold messages.
        self._lock = threading.Lock()
        self._qos: Any = None
        self._fixed = False
        self._raised = 0

    def begin(self) -> None:
        """Start with a new connection, of which nothing is held yet."""
        consumer = self._consumer
        self._qos = consumer.qos
        # RabbitMQ takes no change for a quorum queue. Other transports count for themselves, whatever they call it.
        self._fixed = consumer.connection.transport.driver_type == "amqp" and not getattr(consumer, "qos_global", True)
        self._raised = 0

    def has_space(self, held: int) -> bool:
        """Tell whether one more can be held, so that others still come through."""
        return not self._fixed or held < self._qos.value // 2

    def too_many(self, unraised: int, beyond: int) -> int:
        """Return how many of the messages that wait are in the way of others.

        Args:
            unraised: for how many of them the count was not raised.
            beyond: how many more they are than may be held; counts where the broker sends all that it has.
        """
        return unraised - self._least // 2 if self._least else beyond

    def raise_(self, count: int) -> int:
        """Add so many; return how many were added, for there may be a bound, or no count at all."""
        if self._fixed:
            return 0
        with self._lock:
            before = self._qos.value
            added: int = self._qos.increment_eventually(count) - before
            self._raised += added
        return added

    def lower(self, count: int) -> None:
        """Take off so many of those that were added."""
        with self._lock:
            self._raised -= count
            # Celery may have taken some off already.
            extra = min(count, self._qos.value - self._least)
            if extra > 0:
                self._qos.decrement_eventually(extra)

    def keep(self) -> None:
        """Add what Celery took off although it is needed.

        For a message with an ETA it adds one if `worker_eta_task_limit` lets it, and takes one off in any case. When it
        has set the count lower after a lost connection, it sets it back to what the pool alone needs.
        """
        with self._lock:
            missing = self._least + self._raised - self._qos.value
            if missing > 0 and not self._fixed:
                self._qos.increment_eventually(missing)

    def apply(self) -> None:
        """Tell the broker now, not when the event loop comes to it."""
        if self._qos.prev != self._qos.value:
            self._qos.update()

    @property
    def _least(self) -> int:
        return int(self._consumer.initial_prefetch_count)


def prefetch_of(consumer: Any) -> Prefetch:
    """Return the one of a consumer: all who add to its count must know of each other."""
    known = getattr(consumer, "tasklocks_prefetch", None)
    if known is None:
        known = consumer.tasklocks_prefetch = Prefetch(consumer)
    return known
