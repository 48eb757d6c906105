"""What threads have to say to the event loop: a list, and something that wakes the loop, such as a byte in a pipe."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

__all__ = ["Inbox"]

T = TypeVar("T")


class Inbox(Generic[T]):
    """Takes messages from any thread until it is shut.

    Args:
        wake: called after the first message since the last look; None: a byte can be read from `reader` then.
    """

    def __init__(self, wake: Callable[[], object] | None = None) -> None:
        self._wake = wake or self._write
        self._lock = threading.Lock()
        self._messages: list[T] = []
        self._shut = False
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self._writer, False)

    def put(self, message: T) -> bool:
        """Leave a message; False: it is shut, and nobody will read it."""
        with self._lock:
            if self._shut:
                return False
            self._messages.append(message)
            wake = len(self._messages) == 1
        if wake:
            self._wake()
        return True

    def take(self) -> Sequence[T]:
        """Return what was left, oldest first."""
        with suppress(BlockingIOError):
            os.read(self.reader, 4096)
        with self._lock:
            messages, self._messages = self._messages, []
        return messages

    def shut(self) -> Sequence[T]:
        """Take no more; return what was left."""
        with self._lock:
            self._shut = True
        return self.take()

    def open(self) -> None:
        """Take messages again."""
        with self._lock:
            self._shut = False

    def _write(self) -> None:
        # Full: the loop is about to wake up anyway.
        with suppress(BlockingIOError):
            os.write(self._writer, b"\0")
