"""What the main process and its pool's processes both know of each lent lease: who uses it, and how long it lasts.

Numbers in memory that they share. The main process writes the deadlines, a pool's process writes that it uses a lease.
A number is eight bytes at an address that is a multiple of eight, written by one copy: a reader sees the old or the new
one.
"""

from __future__ import annotations

import mmap
from collections import deque

__all__ = ["LOST", "Table"]

LOST = 0.0
"""The deadline of a lease that is lost, or not lent any more."""

_SIZE = 4096


class Table:
    """Deadlines on the local clock, and users, by index. Made before the pool is forked."""

    def __init__(self, size: int = _SIZE) -> None:
        numbers = memoryview(mmap.mmap(-1, 16 * size)).cast("d")
        self.deadlines, self.users = numbers[:size], numbers[size:]
        self._free = deque(range(size))

    def __len__(self) -> int:
        """Return how many are free."""
        return len(self._free)

    def take(self, deadline: float) -> int:
        """Return an index that nobody uses, for a lease with that deadline."""
        index = self._free.popleft()
        self.users[index], self.deadlines[index] = 0.0, deadline
        return index

    def give_back(self, index: int) -> None:
        """Let others use the index; late, so that a stray reader finds what it knew."""
        self._free.append(index)
