"""What the main process and its pool's processes both know of each lent lease: who uses it, and how long it lasts.

Numbers in memory that they share. The main process writes the deadlines, a pool's process writes that it uses a lease.
A number is eight bytes at an address that is a multiple of eight, written by one copy: a reader sees the old or the new
one.
"""

from __future__ import annotations

import itertools
import mmap
import os
from collections import deque

__all__ = ["LOST", "Table"]

LOST = 0.0
"""The deadline of a lease that is lost, or not lent any more."""

_SIZE = 4096


class Table:
    """Deadlines on the local clock, users and serial numbers, by index. Made before the pool is forked."""

    def __init__(self, size: int = _SIZE) -> None:
        numbers = memoryview(mmap.mmap(-1, 3 * 8 * size)).cast("d")
        self.deadlines, self._users, self._serials = numbers[:size], numbers[size : 2 * size], numbers[2 * size :]
        self._free = deque(range(size))
        self._serial = itertools.count(1)

    def __len__(self) -> int:
        """Return how many are free."""
        return len(self._free)

    def take(self, deadline: float) -> tuple[int, int]:
        """Return an index that nobody uses, for a lease with that deadline, and the serial number of this use."""
        index, serial = self._free.popleft(), next(self._serial)
        self.deadlines[index] = LOST
        self._users[index], self._serials[index] = 0.0, serial
        self.deadlines[index] = deadline
        return index, serial

    def give_back(self, index: int) -> None:
        """Let others use the index; late, so that a stray reader finds what it knew."""
        self._free.append(index)

    def user(self, index: int) -> int:
        """Return the process that uses the lease; 0: none yet."""
        return int(self._users[index])

    def begin(self, index: int, serial: int) -> bool:
        """Note that this process uses the lease; False: it may not any more."""
        if self._serials[index] != serial:
            return False
        # Said first, looked at afterwards: whoever takes the lease back does it the other way round.
        self._users[index] = os.getpid()
        return self.deadlines[index] != LOST
