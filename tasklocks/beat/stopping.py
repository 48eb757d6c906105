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
        self._passing = False
        self._put_off: tuple[int, FrameType | None, threading.Timer] | None = None

    def install(self) -> None:
        """Stand in front of the handlers that are there now, once; only a main thread can."""
        # Once: a client's `tasklocks.shield` may come to stand in front, and the two would call each other for ever.
        if self._handlers or threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            there = signal.getsignal(number)
            if callable(there):
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
            self._pass_on(number, frame)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._busy or self._put_off is not None:
            self._pass_on(number, frame)
            return
        again = threading.Timer(_PATIENCE, os.kill, (os.getpid(), number))
        again.daemon = True
        self._put_off = number, frame, again
        again.start()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if self._passing:
            # The handler that stood here first has come to stand in front of us as well.
            raise SystemExit
        self._passing = True
        try:
            self._handlers[number](number, frame)
        finally:
            self._passing = False
