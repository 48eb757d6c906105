"""The prefetch count: raised by one for each message that is held, so that what is behind it is reached."""

from __future__ import annotations

from typing import Any

__all__ = ["Prefetch"]


class Prefetch:
    """What was added to the prefetch count of the current connection. Only the event loop uses it."""

    def __init__(self) -> None:
        self._qos: Any = None
        self._least = 0
        self._fixed = False

    def use(self, qos: Any, least: int, *, fixed: bool) -> None:
        """Start with a new connection.

        Args:
            qos: Celery's.
            least: the count without what is held.
            fixed: whether the broker takes no change of it (quorum queues).
        """
        self._qos, self._least, self._fixed = qos, least, fixed

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

    def raise_(self) -> bool:
        """Add one; tell whether that changed anything, for there may be a bound, or no count at all."""
        if self._fixed:
            return False
        before = self._qos.value
        return bool(self._qos.increment_eventually() > before)

    def lower(self) -> None:
        """Take one off that was added."""
        # Celery sets the count anew after a lost connection, whatever was added to it.
        if self._qos.value > self._least:
            self._qos.decrement_eventually()

    def apply(self) -> None:
        """Tell the broker now, not when the event loop comes to it."""
        if self._qos.prev != self._qos.value:
            self._qos.update()
