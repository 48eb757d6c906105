"""The clock that local deadlines are measured on.

`time.monotonic` on Linux stands still while the machine is suspended, so a laptop or a paused virtual
machine would wake up believing in leases that ended long ago. CLOCK_BOOTTIME goes on counting. Both are
the same in every process of a host, so a deadline can be handed from one process to another.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["now", "pause"]


def _best_clock() -> Callable[[], float]:
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    if boottime is None:
        return time.monotonic
    return lambda: time.clock_gettime(boottime)


now: Callable[[], float] = _best_clock()
"""Seconds on a clock that never goes back and that counts suspension where the system can."""


def pause(seconds: float) -> None:
    """Sleep; looked up at each call, so that a patched `time.sleep` (gevent) is honoured."""
    time.sleep(seconds)
