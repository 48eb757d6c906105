"""`box://name`: the limits of one process, as somebody else's backend would keep them.

Does not guarantee: anything between processes. It cannot wake a waiter, so waiters look again at short intervals.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypeVar

from tasklocks.backends.base import Change, ReservesByUpdate
from tasklocks.backends.memory import MemoryBackend
from tasklocks.types import AcquireRequest, Busy, Capabilities, Grant, LimitState, Page

T = TypeVar("T")


class Ear:
    """What a waiter sleeps on; nobody ever wakes it."""

    address = "nobody"

    def wait(self, timeout: float, since: Busy) -> Grant | None:
        time.sleep(timeout)
        return None

    def close(self) -> None:
        pass


class BoxBackend(ReservesByUpdate):
    """A dictionary of limits under a lock, which here is the embedded memory backend."""

    capabilities = Capabilities(push=False, server_clock=False, strict_order=True, multi_host=False)
    listening = True

    def __init__(self, url: str, *, prefix: str = "tasklocks", **options: object) -> None:
        self._limits = MemoryBackend()

    def acquire(self, request: AcquireRequest) -> Grant | Busy:
        return self._limits.acquire(request)

    def renew(self, grants: Sequence[Grant]) -> Sequence[Grant | None]:
        return self._limits.renew(grants)

    def release(self, name: str, owner: str, keep: float = 0.0) -> bool:
        return self._limits.release(name, owner, keep)

    def force_release(self, name: str, owner: str | None = None) -> int:
        return self._limits.force_release(name, owner)

    def inspect(self, name: str) -> LimitState:
        return self._limits.inspect(name)

    def page(self, after: str = "", most: int = 200) -> Page:
        return self._limits.page(after, most)

    def update(self, name: str, change: Change[T]) -> T:
        return self._limits.update(name, change)

    def version(self) -> str:
        return "1.0"

    def listen(self, owner: str) -> Ear:
        return Ear()

    def close(self) -> None:
        self._limits.close()
