"""What one process has of etcd: connections, leases, ears, and what it knows of the limits that it used lately."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from tasklocks import clock
from tasklocks.backends.base import GRANT_TTL
from tasklocks.backends.etcd.ears import Ears
from tasklocks.backends.etcd.keys import UNKNOWN_CAPACITY, UNKNOWN_USUAL, Away, Capacity, Entry, Keys, LimitKeys, Usual
from tasklocks.backends.etcd.line import Line
from tasklocks.backends.etcd.mine import Table
from tasklocks.backends.etcd.ops import Compare, Op, Put, Range, Rows, Transport, Txn, TxnReply, prefix_end
from tasklocks.backends.etcd.sessions import WAITING, Session, Sessions
from tasklocks.backends.etcd.texts import Texts
from tasklocks.types import Grant

__all__ = ["Base", "Store", "parsed", "sorted_out"]

_REMEMBERED = 1000
_CROWD = 16  # keys of a limit that are read without choosing
_NEXT = 8  # waiters at the head of the line that are read
_AWAY_ROWS = 64
_NOTHING = Rows((), 0)
_A_MINUTE = 60_000_000  # microseconds


class Base:
    """What is added to a revision to make a token.

    A revision of etcd never goes back, unless its data is lost or an old snapshot is restored. So tokens are counted
    from a number that only grows and that is raised to the time, in microseconds, now and then: by each process that
    starts or that lost its connection. No store makes a million revisions a second, so after a restore, which needs
    a restart, tokens are larger than all before.
    """

    def __init__(self, transport: Transport, key: bytes) -> None:
        self._transport = transport
        self._key = key
        self._known: tuple[int, int] | None = None
        self._behind = _A_MINUTE

    def now(self) -> tuple[int, Compare]:
        """Return the number to add, and what is true as long as it is that."""
        while (known := self._known) is None:
            self._known = self._raised()
        value, mod = known
        return value, Compare(self._key, "mod", "EQUAL", mod)

    def forget(self, *, raised: bool = False) -> None:
        """Look again; if `raised`, also raise it to the time of now."""
        if raised:
            self._behind = 0
        self._known = None

    def _raised(self) -> tuple[int, int] | None:
        reply = self._transport.txn(Txn((), (Range(self._key),)))
        kvs = reply.rows[0].kvs
        value, mod = (int(kvs[0].value), kvs[0].mod) if kvs else (0, 0)
        wanted = time.time_ns() // 1000 - reply.revision
        if kvs and value >= wanted - self._behind:
            return value, mod
        self._behind = _A_MINUTE
        larger = max(wanted, value + 1)
        put = Txn((Compare(self._key, "mod", "EQUAL", mod),), (Put(self._key, b"%d" % larger),))
        done = self._transport.txn(put)
        return (larger, done.revision) if done.done else None


class Store:
    """One process's view of etcd.

    Attributes:
        breaks: how often a connection had been lost when what is known was doubted last.
    """

    def __init__(self, connect: Callable[[], Transport], keys: Keys) -> None:
        self.transport = connect()
        self.keys = keys
        self.table = Table()
        self.base = Base(self.transport, keys.base)
        self.sessions = Sessions(self.transport, self._agree, self._in_use, self._beat)
        self.ears = Ears(self.transport, keys.ear, lambda: self.waiting_lease().id, self)
        self.texts = Texts(self.transport, self.sessions)
        self.each_beat: Callable[[], None] = lambda: None
        self._lines: OrderedDict[str, Line] = OrderedDict()
        self.breaks = 0

    def waiting_lease(self) -> Session:
        """Return the session that waiters' places end with."""
        return self.sessions.get(WAITING)

    def served(self, name: str, owner: str, create: int) -> Grant | None:
        """Note that a waiter of this process has its permits; return its lease, which it must claim soon.

        None if it is not certain any more: the news may be old, and the entry gone with its etcd lease.
        """
        mine, now = self.table.told(name, owner, create), clock.now()
        if mine is None:
            return None
        certain_until = self.sessions.lasts_until(mine.lease)
        if mine.taken_at is None and now < certain_until:
            mine.taken_at = now
            mine.ends = min(now + min(mine.ttl, GRANT_TTL), certain_until)
        return mine.grant() if now < min(mine.ends, certain_until) else None

    def remember(self, name: str, line: Line) -> Line:
        """Keep what is known of a limit."""
        self._lines[name] = line
        self._lines.move_to_end(name)
        if len(self._lines) > _REMEMBERED:
            self._lines.popitem(last=False)
        return line

    def is_live(self, grant: Grant) -> bool:
        """Return whether a lease of this process has not been given back."""
        mine = self.table.find(grant.name, grant.owner)
        return mine is not None and mine.token == grant.fencing_token

    def learn(self, name: str, line: Line) -> None:
        """Take over what another process knows of a limit, unless it is older."""
        known = self.known(name)
        if line.revision >= known.revision:
            self.remember(name, replace(line, aways=known.aways, aways_total=known.aways_total))

    def known(self, name: str) -> Line:
        """Return what was known of a limit last."""
        return self._lines.get(name, Line())

    def forget_if_reconnected(self) -> None:
        """Forget what was known if a connection was lost since this was asked last."""
        if self.breaks != self.transport.breaks:
            self.breaks = self.transport.breaks
            self.forget()

    def forget(self) -> None:
        """Doubt everything: etcd may have come back with older data, and smaller revisions."""
        self._lines.clear()
        self.base.forget(raised=True)

    def reads(self, name: str, owner: str, permits: int, *, in_full: bool = False) -> tuple[Op, ...]:
        """Return what to read of a limit that may have so many permits.

        Usually that is all keys of it: etcd's time goes with the number of operations. Of a crowded limit it is the
        head of the line, and, if `in_full`, those who are away and what `owner` has: then time goes with the bytes.
        """
        keys, known = self.keys.limit(name), self.known(name)
        if known.total + known.aways_total < _CROWD - 2:
            return (Range(keys.all, prefix_end(keys.all), _CROWD),)
        head = max(permits, known.capacity.permits) + _NEXT
        line = (Range(keys.line, keys.line_end, head), Range(keys.capacity), Range(keys.hold))
        if not in_full:
            return line
        return (*line, Range(keys.away, prefix_end(keys.away), _AWAY_ROWS), Range(keys.entry(owner)))

    def read(self, name: str, owner: str, reply: TxnReply, reads: Sequence[Op]) -> Line:
        """Return the line in the answer to `reads`, which were the last operations."""
        rows = reply.rows[-len(reads) :]
        if len(rows) > 1:
            return self.remember(name, _with_own(parsed(reply.revision, rows), owner))
        line = sorted_out(self.keys.limit(name), owner, reply.revision, rows[0])
        self.remember(name, line)
        return line if rows[0].total == len(rows[0].kvs) else self.look(name, owner, 0)

    def look(self, name: str, owner: str, permits: int) -> Line:
        """Return the line as it is now."""
        reads = self.reads(name, owner, permits, in_full=True)
        return self.read(name, owner, self.transport.txn(Txn((), reads)), reads)

    def close(self) -> None:
        """Close everything of this process."""
        self.ears.close()
        self.sessions.close()
        self.transport.close()

    def _agree(self) -> TxnReply:
        return self.transport.txn(Txn((), (Range(self.keys.base),)))

    def _in_use(self) -> set[int]:
        return self.table.leases() | {self.ears.lease}

    def _beat(self) -> None:
        self.each_beat()
        self.ears.rest()


def parsed(revision: int, rows: Sequence[Rows]) -> Line:
    """Return the line in rows of entries, capacity and hold, and of those who are away and the own entry if read."""
    line, capacity, hold, *rest = rows
    away, own = rest or (_NOTHING, _NOTHING)
    return Line(
        revision,
        Capacity.read(capacity.kvs[0]) if capacity.kvs else UNKNOWN_CAPACITY,
        Usual.read(hold.kvs[0]) if hold.kvs else UNKNOWN_USUAL,
        tuple(Entry.read(kv) for kv in line.kvs),
        line.total,
        tuple(Away.read(kv) for kv in away.kvs),
        away.total,
        Entry.read(own.kvs[0]) if own.kvs else None,
    )


def sorted_out(keys: LimitKeys, owner: str, revision: int, rows: Rows) -> Line:
    """Return the line that stands in all keys of a limit; if those are not all, it counts as crowded."""
    missing, own = rows.total - len(rows.kvs), keys.entry(owner)
    line = tuple(kv for kv in rows.kvs if kv.key.startswith(keys.line))
    away = tuple(kv for kv in rows.kvs if kv.key.startswith(keys.away))
    one = [tuple(kv for kv in rows.kvs if kv.key == key) for key in (keys.capacity, keys.hold, own)]
    capacity, hold, mine = (Rows(kvs, len(kvs)) for kvs in one)
    return parsed(revision, (Rows(line, len(line) + missing), capacity, hold, Rows(away, len(away)), mine))


def _with_own(line: Line, owner: str) -> Line:
    if line.own is not None:
        return line
    return replace(line, own=next((entry for entry in line.entries if entry.owner == owner), None))
