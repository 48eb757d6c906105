"""tasklocks itself, through its public names."""

from __future__ import annotations

from benchmarks.pair import Pair
from tasklocks import Lease, Lock, LockBusy

__all__ = ["lock"]


def lock(url: str, name: str) -> Pair:
    """Return `Lock(name, backend=url)`."""
    mutex = Lock(name, backend=url)
    held: list[Lease] = []

    def acquire(blocking: bool) -> bool:
        try:
            held.append(mutex.acquire(blocking=blocking))
        except LockBusy:
            return False
        return True

    return Pair(acquire, lambda: held.pop().release())
