"""Values that belong to one process: made on first use, made anew after a fork.

A client inherited over a fork shares its socket, its file locks and its threads' locks with the parent: plain
commands get mixed up, kazoo hangs, SQLite commits inside the parent's transaction. So a forked child starts from
nothing. What it inherited is kept, unused: closing it would act on the parent's connection.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["PerProcess"]

T = TypeVar("T")

_known: weakref.WeakSet[PerProcess[Any]] = weakref.WeakSet()
_inherited: list[object] = []


class PerProcess(Generic[T]):
    """Make a value with `make` on the first call in each process, and return the same one afterwards."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._values: list[T] = []
        _known.add(self)

    def __call__(self) -> T:
        """Return this process's value."""
        values = self._values
        if values:
            return values[0]
        with self._lock:
            if not self._values:
                self._values.append(self._make())
            return self._values[0]

    def peek(self) -> T | None:
        """Return this process's value if it was made already."""
        return self._values[0] if self._values else None

    def take(self) -> T | None:
        """Forget this process's value and return it, for the caller to close."""
        with self._lock:
            return self._values.pop() if self._values else None

    def _forget(self) -> None:
        _inherited.append(self._values)
        # A lock that a thread of the parent held at the fork stays locked in the child for ever.
        self._lock = threading.Lock()
        self._values = []


def _forget_all() -> None:
    for each in list(_known):
        each._forget()


os.register_at_fork(after_in_child=_forget_all)
