"""One limit in a few lines of plain Python, without time: what every backend is compared with."""

from __future__ import annotations

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

    def free(self) -> int:
        return self.capacity - sum(self.leases.values()) - sum(self.kept.values())

    def serve(self) -> None:
        while self.queue and next(iter(self.queue.values())) <= self.free():
            owner = next(iter(self.queue))
            self.leases[owner] = self.queue.pop(owner)

    def acquire(self, owner: str, permits: int, capacity: int) -> bool:
        self.capacity = capacity
        self.serve()
        if owner in self.leases:
            return True
        if self.queue or permits > self.free():
            return False
        self.leases[owner] = permits
        return True

    def release(self, owner: str) -> bool:
        self.queue.pop(owner, None)
        ended = self.leases.pop(owner, None) is not None
        self.serve()
        return ended
