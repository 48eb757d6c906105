"""tasklocks itself, through its public names."""

from __future__ import annotations

from benchmarks.pair import Pair
from tasklocks import Lease, Lock, LockBusy

__all__ = ["kept", "lock"]


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


def kept(url: str, name: str, ttl: float) -> Lease:
    """Return a lease, which is renewed until it is released."""
    return Lock(name, ttl=ttl, backend=url).acquire(blocking=False)
