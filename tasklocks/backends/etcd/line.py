"""The line of one limit as it was at one revision, and who in it holds permits: no calls, only counting.

Nothing is granted in etcd: who holds permits follows from the order. An entry holds its permits as soon as it and all
in front of it fit into the capacity. So taking away an entry hands its permits on in the same step, whoever does it and
why, and an entry can never be overtaken.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tasklocks.backends.etcd.keys import UNKNOWN_CAPACITY, UNKNOWN_USUAL, Away, Capacity, Entry, Usual

__all__ = ["Line", "newly_served"]


@dataclass(frozen=True, slots=True)
class Line:
    """What is known of a limit.

    Attributes:
        revision: the store's, when this was read; 0: nothing is known, the limit is guessed to be unused.
        capacity: how many permits there are.
        usual: how long they are held.
        entries: the first of the line, in order.
        total: how many entries there are in all.
        aways: some of those who come back by themselves, oldest first.
        aways_total: how many of them there are.
        own: the entry of whoever looked, if it has one.
    """

    revision: int = 0
    capacity: Capacity = UNKNOWN_CAPACITY
    usual: Usual = UNKNOWN_USUAL
    entries: tuple[Entry, ...] = ()
    total: int = 0
    aways: tuple[Away, ...] = ()
    aways_total: int = 0
    own: Entry | None = None

    @property
    def served(self) -> int:
        """How many entries hold permits: that many of the first."""
        return _served(self.entries, self.capacity)

    @property
    def holders(self) -> tuple[Entry, ...]:
        """The entries that hold permits."""
        return self.entries[: self.served]

    @property
    def waiting(self) -> int:
        """How many listen for permits."""
        return self.total - self.served

    def is_served(self, entry: Entry) -> bool:
        """Return whether the entry holds its permits."""
        return any(each.create == entry.create for each in self.holders)

    def admits(self, permits: int, capacity: int) -> bool:
        """Return whether a newcomer can have permits at once, if there are `capacity` in all."""
        stated = self.capacity if self.capacity.permits == capacity else replace(self.capacity, permits=capacity)
        taken = sum(entry.permits for entry in self.entries)
        everyone = _served(self.entries, stated) == len(self.entries) == self.total
        return everyone and taken + permits <= capacity

    def in_front_of(self, entry: Entry) -> int | None:
        """Return how many wait in front of an entry; None if it is too far back to be seen."""
        for number, each in enumerate(self.entries):
            if each.create == entry.create:
                return number - self.served
        return None

    def away_now(self) -> list[Away]:
        """Return those who are away and whose places have not lapsed, as far as they were read."""
        now = time.time()
        return [away for away in self.aways if away.until > now]

    @property
    def away_count(self) -> int:
        """How many are away, about."""
        return self.aways_total - len(self.aways) + len(self.away_now())

    def stating(self, capacity: int) -> Capacity:
        """Return the capacity to write so that those who hold permits go on holding them."""
        holders = self.holders
        return Capacity(capacity, holders[-1].create if holders else 0)


def newly_served(line: Line, gone: Sequence[Entry]) -> list[Entry]:
    """Return who holds permits in `line` and did not while the entries in `gone` were there."""
    before = sorted([*line.entries, *gone], key=lambda entry: entry.create)
    held = {entry.create for entry in before[: _served(before, line.capacity)]}
    return [entry for entry in line.holders if entry.create not in held]


def _served(entries: Sequence[Entry], capacity: Capacity) -> int:
    taken = 0
    for number, entry in enumerate(entries):
        taken += entry.permits
        if taken > capacity.permits and entry.create > capacity.served_to:
            return number
    return len(entries)
