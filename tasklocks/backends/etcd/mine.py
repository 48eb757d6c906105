"""What this process has in lines, and until when: the ends that are shorter than the life of its etcd leases.

An etcd lease is shared by all that a process has with one ttl, and it lasts while the process keeps it alive. So when
one entry of a live process is over, the process takes it away itself: in its next step on the limit, or at the next
beat, whichever comes first. Of what a dead or frozen process had, etcd takes everything away.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from tasklocks.types import Grant

__all__ = ["Mine", "Table"]

_EARLY = 1000


@dataclass(slots=True)
class Mine:
    """One entry of this process.

    Attributes:
        name: the limit.
        owner: whose it is.
        create: the revision at which it was made; 0 if it is not known whether it was.
        mod: the revision of its last change by this process; 0 if unknown.
        permits: how many it holds or waits for.
        ttl: seconds that its lease lasts without renewal.
        token: its fencing token.
        lease: the etcd lease that it ends with.
        ends: local clock; when it is over.
        taken_at: local clock; when its owner got the permits; None while it waits.
        closed: it only keeps permits taken.
        ahead: how many waited in front when it was last seen.
        missed: it was looked for in vain.
    """

    name: str
    owner: str
    create: int
    mod: int
    permits: int
    ttl: float
    token: int
    lease: int
    ends: float
    taken_at: float | None = None
    closed: bool = False
    ahead: int = 0
    missed: bool = False

    def grant(self) -> Grant:
        """Return it as a lease."""
        return Grant(self.name, self.owner, self.permits, self.ttl, self.token, self.ends)


class Table:
    """The entries of this process; shared by its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: dict[str, dict[str, Mine]] = {}
        self._early: OrderedDict[tuple[str, str], int] = OrderedDict()

    def find(self, name: str, owner: str) -> Mine | None:
        """Return what `owner` has of a limit, as far as this process knows."""
        return self._limits.get(name, {}).get(owner)

    def add(self, mine: Mine) -> bool:
        """Note an entry; return whether news of its permits came before it was noted."""
        with self._lock:
            self._limits.setdefault(mine.name, {})[mine.owner] = mine
            return self._early.pop((mine.name, mine.owner), 0) == mine.create

    def doubt(self, name: str, owner: str, ends: float) -> None:
        """Note that an entry may be made, which is over at `ends` unless `add` says otherwise."""
        with self._lock:
            self._limits.setdefault(name, {}).setdefault(owner, Mine(name, owner, 0, 0, 0, 0.0, 0, 0, ends))

    def believe(self, name: str, owner: str) -> None:
        """Note that it was not made."""
        if (mine := self.find(name, owner)) is not None and not mine.create:
            self.drop(name, owner)

    def drop(self, name: str, owner: str) -> Mine | None:
        """Forget an entry and return it."""
        with self._lock:
            entries = self._limits.get(name, {})
            mine = entries.pop(owner, None)
            if not entries:
                self._limits.pop(name, None)
            return mine

    def told(self, name: str, owner: str, create: int) -> Mine | None:
        """Return the entry that was served; if it is not noted yet, remember that for `add`."""
        with self._lock:
            mine = self._limits.get(name, {}).get(owner)
            if mine is not None and mine.create == create:
                return mine
            self._early[name, owner] = create
            while len(self._early) > _EARLY:
                self._early.popitem(last=False)
            return None

    def lapsed(self, now: float, name: str | None = None) -> list[Mine]:
        """Return the entries that are over, of one limit or of all."""
        if name is not None and name not in self._limits:
            return []
        with self._lock:
            limits = self._limits.values() if name is None else [self._limits.get(name, {})]
            return [mine for entries in limits for mine in entries.values() if mine.ends <= now]

    def leases(self) -> set[int]:
        """Return the etcd leases that entries end with."""
        with self._lock:
            return {mine.lease for entries in self._limits.values() for mine in entries.values()}
