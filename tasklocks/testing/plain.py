"""One limit in a few lines of plain Python, without time: what every backend is compared with."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["Model"]


@dataclass
class Model:
    """One limit."""

    capacity: int = 0
    leases: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    queue: dict[str, int] = field(default_factory=dict)
    away: dict[str, int] = field(default_factory=dict)
    since: dict[str, float] = field(default_factory=dict)

    def free(self) -> int:
        return self.capacity - sum(self.leases.values()) - sum(self.kept.values())

    def serve(self) -> None:
        while self.queue and next(iter(self.queue.values())) <= self.free():
            owner = next(iter(self.queue))
            self.leases[owner] = self.queue.pop(owner)

    def acquire(self, owner: str, permits: int, capacity: int, since: float = math.inf) -> bool:
        self.capacity = capacity
        self.serve()
        if owner in self.leases:
            return True
        if self.is_behind(owner, since) or permits > self.free():
            return False
        self.leases[owner] = permits
        return True

    def is_behind(self, owner: str, since: float) -> bool:
        return owner in self.queue or any(self.since[each] <= since for each in self.queue)

    def stand(self, owner: str, permits: int, since: float) -> None:
        if owner not in self.queue:
            self.queue[owner], self.since[owner] = permits, since
            self.queue = dict(sorted(self.queue.items(), key=lambda each: self.since[each[0]]))

    def release(self, owner: str) -> bool:
        self.queue.pop(owner, None)
        ended = self.leases.pop(owner, None) is not None
        self.serve()
        return ended
