"""A worker that notes when its event loop was late: a timer that should have run every 20 ms.

And how many objects full garbage collections, which stop the loop, pass over.
"""

from __future__ import annotations

import gc
import time
from typing import Any

from celery import Celery, bootsteps

from tests.apps.record import note

__all__ = ["note_gaps"]

_EVERY = 0.02
_LATE = 0.005


def note_gaps(app: Celery) -> None:
    """Let the workers of `app` note each gap as `late`, with its seconds beyond the interval."""
    app.steps["consumer"].add(_Ticks)


class _Ticks(bootsteps.StartStopStep):
    requires = ("celery.worker.consumer.tasks:Tasks",)

    def register_with_event_loop(self, parent: Any, hub: Any) -> None:
        self._due = time.monotonic() + _EVERY
        note("passed over", "loop", objects=gc.get_freeze_count())
        hub.call_repeatedly(_EVERY, self._tick)

    def _tick(self) -> None:
        now = time.monotonic()
        if now > self._due + _LATE:
            note("late", "loop", seconds=now - self._due)
        self._due = now + _EVERY
