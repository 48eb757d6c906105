"""Signals for your own code: sent where the moment happens, in the thread of the task.

    from tasklocks.celery.signals import lock_skipped

    @lock_skipped.connect
    def count(sender, limit, template, reason, **kwargs): ...

The sender is the task's name (empty: plain code). The arguments are the attributes of `tasklocks.news.News` and of
`About`, by name. A receiver that raises is logged and harms nobody; one that is slow holds up the task. With admission,
locks are acquired and released in the worker's main process, so that is where those signals are sent.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from celery.utils.dispatch import Signal

from tasklocks import news
from tasklocks.news import Kind, News

__all__ = ["lock_acquired", "lock_lost", "lock_refused", "lock_released", "lock_skipped", "lock_waiting"]


class LimitSignal(Signal):
    """A Celery signal of moments of some kinds; nothing is made and sent for it while nobody is connected."""

    def __init__(self, name: str, kinds: Collection[Kind]) -> None:
        super().__init__(name=name, providing_args=news.FACTS)
        self._kinds = kinds

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        """See Celery's documentation of signals."""
        news.subscribe(self._tell, self._kinds)
        return super().connect(*args, **kwargs)

    def disconnect(self, *args: Any, **kwargs: Any) -> Any:
        """See Celery's documentation of signals."""
        found = super().disconnect(*args, **kwargs)
        if not self.receivers:
            news.unsubscribe(self._tell, self._kinds)
        return found

    def _tell(self, told: News) -> None:
        facts = news.facts(told)
        self.send(sender=facts["task"], **facts)


lock_waiting = LimitSignal("lock_waiting", ["waiting", "unreachable"])
"""A limit is not free, or its backend does not answer, and the call waits; each time that a task is sent again."""

lock_acquired = LimitSignal("lock_acquired", ["acquired"])
"""The lease is there, or, under a rate limit, the start has come."""

lock_released = LimitSignal("lock_released", ["released"])
"""The lease was given back."""

lock_lost = LimitSignal("lock_lost", ["lost"])
"""The lease ended although nobody released it; sent from the thread that notices."""

lock_skipped = LimitSignal("lock_skipped", ["skipped"])
"""The limit is not free, and the task ends without running."""

lock_refused = LimitSignal("lock_refused", ["refused", "timed_out"])
"""The limit is not free, and the task fails with `LockBusy`, or with `LockTimeout` after it has waited."""
