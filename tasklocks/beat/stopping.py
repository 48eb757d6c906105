"""A stop that waits for the send under way: SIGTERM between a claim and its message would leave a tick in doubt."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["StopsLater"]

_PATIENCE = 1.0  # seconds; then the signal comes through whatever is going on
_Handler = Callable[[int, FrameType | None], Any]


class StopsLater:
    """Puts a stop of this process off until a block of code has ended, for a second at the most."""

    def __init__(self) -> None:
        self._handlers: dict[int, _Handler] = {}
        self._busy = False
        self._put_off: tuple[int, FrameType | None, threading.Timer] | None = None

    def install(self) -> None:
        """Stand in front of the handlers that are there now; only a main thread can."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            there = signal.getsignal(number)
            if callable(there) and there != self._handle:
                self._handlers[number] = there
                signal.signal(number, self._handle)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Put a stop off until the block is left."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
        if self._put_off is not None:
            number, frame, again = self._put_off
            again.cancel()
            self._handlers[number](number, frame)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._busy or self._put_off is not None:
            self._handlers[number](number, frame)
            return
        again = threading.Timer(_PATIENCE, os.kill, (os.getpid(), number))
        again.daemon = True
        self._put_off = number, frame, again
        again.start()
