"""The prefetch count: raised by one for each message that is held, so that what is behind it is reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Prefetch"]


class Prefetch:
    """What was added to the prefetch count of the current connection. Only the event loop uses it."""

    def __init__(self) -> None:
        self._qos: Any = None
        self._least: Callable[[], int] = int
        self._fixed = False
        self._raised = 0

    def use(self, qos: Any, least: Callable[[], int], *, fixed: bool) -> None:
        """Start with a new connection.

        Args:
            qos: Celery's.
            least: tells the count without what is held; it follows the size of the pool.
            fixed: whether the broker takes no change of it (quorum queues).
        """
        self._qos, self._least, self._fixed = qos, least, fixed
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
        least = self._least()
        return unraised - least // 2 if least else beyond

    def raise_(self) -> bool:
        """Add one; tell whether that changed anything, for there may be a bound, or no count at all."""
        if self._fixed:
            return False
        before = self._qos.value
        raised = bool(self._qos.increment_eventually() > before)
        self._raised += raised
        return raised

    def lower(self) -> None:
        """Take one off that was added."""
        self._raised -= 1
        # Celery sets the count anew after a lost connection, whatever was added to it.
        if self._qos.value > self._least():
            self._qos.decrement_eventually()

    def keep(self) -> None:
        """Add what Celery took off although it is needed.

        For a message with an ETA it adds one if `worker_eta_task_limit` lets it, and takes one off in any case. When it
        has set the count lower after a lost connection, it sets it back to what the pool alone needs.
        """
        missing = self._least() + self._raised - self._qos.value
        if missing > 0 and not self._fixed:
            self._qos.increment_eventually(missing)

    def apply(self) -> None:
        """Tell the broker now, not when the event loop comes to it."""
        if self._qos.prev != self._qos.value:
            self._qos.update()
