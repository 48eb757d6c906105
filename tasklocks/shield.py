"""Holds back what signals raise while a client works that could not stand it.

A signal's handler runs in the main thread, between any two of its steps; Celery's soft time limit and a lost lease
raise that way. pymongo, struck between taking a lock and the `try` that gives it back, keeps the lock for ever, and
the process hangs with it. So there the handlers wait until the call is over, which its timeouts bound.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

__all__ = ["shielded"]

T = TypeVar("T")

_NAMES = ("SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2")
# The last one is where `celery.interrupt` raises the loss of a lease.
_NUMBERS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
_NUMBERS += [signal.SIGRTMIN + 9] if hasattr(signal, "SIGRTMIN") else []


class _Shield:
    """What is held back. Only the main thread changes it."""

    def __init__(self) -> None:
        self.depth = 0
        self.held: list[_Handler] = []

    def raise_(self) -> None:
        for number in _NUMBERS:
            behind = signal.getsignal(number)
            if callable(behind) and not isinstance(behind, _Handler):
                signal.signal(number, _Handler(behind))
        self.depth += 1

    def lower(self) -> None:
        self.depth -= 1
        while self.held and not self.depth:
            handler = self.held.pop(0)
            handler(handler.number, None)


class _Handler:
    """Stands in front of a handler. A new one each time: what is set later may call the handler that it found."""

    def __init__(self, behind: Callable[[int, FrameType | None], Any]) -> None:
        self.behind = behind
        self.number = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if _shield.depth:
            self.number = number
            _shield.held.append(self)
        else:
            self.behind(number, frame)


_shield = _Shield()


def shielded(work: Callable[[], T]) -> T:
    """Return what `work` returns; what signals raise meanwhile rises when it is over.

    Only in the main thread, for nowhere else do handlers run.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    _shield.raise_()
    try:
        return work()
    finally:
        _shield.lower()


def _after_fork() -> None:
    # Whoever forked from another thread is the main thread now, and in no such call.
    _shield.depth = 0
    _shield.held.clear()


os.register_at_fork(after_in_child=_after_fork)
