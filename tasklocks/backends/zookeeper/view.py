"""A limit as one step sees it: what was listed of it, and who in line has its permits."""

from __future__ import annotations

from dataclasses import dataclass

from tasklocks.backends.base import GRANT_TTL
from tasklocks.backends.zookeeper.nodes import Header, Node, Row

__all__ = ["Settled", "View", "serve"]


@dataclass(slots=True)
class View:
    """A limit's nodes at one moment; `changes` is the number of changes among its children."""

    header: Header
    changes: int
    leases: list[Node]
    line: list[Node]
    away: list[Node]


@dataclass(slots=True)
class Settled:
    """A limit after a step has settled it.

    view: what is there, without what was over.
    rows: what was read of it, by path.
    granted: waiters that have their permits.
    waiting: waiters that have not.
    now: the server's time.
    replaced: the capacity that this step replaced, if it did.
    """

    view: View
    rows: dict[str, Row]
    granted: list[Node]
    waiting: list[Node]
    now: float
    replaced: int | None = None

    @property
    def free(self) -> int:
        """How many permits nobody has."""
        taken = sum(node.permits for node in (*self.view.leases, *self.granted))
        return self.view.header.capacity - taken

    def holders(self) -> list[Row]:
        """Return what is known of those who have permits, oldest first."""
        nodes = (*self.view.leases, *self.granted)
        return sorted((self.rows[node.path] for node in nodes if node.path in self.rows), key=lambda each: each.token)

    def ends(self, holder: Row) -> float:
        """Return the server time at which a holder's lease ends."""
        return self.now + min(holder.ttl, GRANT_TTL) if holder.until is None else holder.until


def serve(settled: Settled) -> Settled:
    """Tell apart who in line has its permits and who has not."""
    line = settled.view.line
    for place, node in enumerate(line):
        known = settled.rows.get(node.path)
        if not (known and known.marked) and node.permits > settled.free:
            settled.waiting = line[place:]
            break
        settled.granted.append(node)
    return settled
