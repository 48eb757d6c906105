"""What an acquire asks of etcd: one transaction each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tasklocks import clock
from tasklocks.backends.etcd.ending import tell, unchanged_since
from tasklocks.backends.etcd.keys import CLOSED, Capacity, Entry, LimitKeys, Usual
from tasklocks.backends.etcd.line import Line
from tasklocks.backends.etcd.mine import Mine
from tasklocks.backends.etcd.ops import Compare, Delete, Op, Put, Range, Rows, Txn, TxnReply
from tasklocks.backends.etcd.sessions import Session
from tasklocks.backends.etcd.store import Store
from tasklocks.types import AcquireRequest, Grant

__all__ = ["Wish", "claim"]


@dataclass(slots=True)
class Wish:
    """One acquire.

    Attributes:
        store: where the limit lives.
        request: what is asked for.
        capacity_was: the capacity that this acquire replaced, if it did.
        breaks: how often a connection had been lost when what is known of the line was read, or before.
        asked_at: local clock, before the last question was sent.
    """

    store: Store
    request: AcquireRequest
    breaks: int
    capacity_was: int | None = None
    asked_at: float = 0.0

    @property
    def keys(self) -> LimitKeys:
        """The limit's keys."""
        return self.store.keys.limit(self.request.name)

    @property
    def listens(self) -> bool:
        """Whether the caller waits to be told."""
        return self.request.place is not None and self.request.place.address is not None

    @property
    def keep(self) -> float:
        """Seconds for which a place in line is kept."""
        return self.request.place.keep if self.request.place is not None else self.request.ttl

    def look(self) -> Line:
        """Read the line."""
        self.breaks, self.asked_at = self.store.transport.breaks, clock.now()
        return self.store.look(self.request.name, self.request.owner, self.request.capacity)

    def enter(self, line: Line, besides: tuple[Compare, ...] = (), writing: tuple[Put, ...] = ()) -> Grant | Line:
        """Take permits on condition that nobody came since `line` was read; else return the line as it is now.

        Args:
            line: nobody waits in it, and the permits are free.
            besides: further conditions.
            writing: what to write in the same step.
        """
        session = self.store.sessions.get(self.request.ttl)
        stated = line.stating(self.request.capacity)
        changed = line.capacity.permits != stated.permits
        base, same_base = self.store.base.now()
        entry = self._entry(base, since=time.time())
        writes: list[Op] = [Put(self.keys.entry(entry.owner), entry.written(), session.id), *self._no_longer_away()]
        if changed:
            writes.append(self._stating(stated))
        unknown = (Range(self.keys.capacity), Range(self.keys.hold)) if line.revision == 0 else ()
        reads = self.store.reads(self.request.name, self.request.owner, self.request.capacity)
        guards = (same_base, unchanged_since(self.keys, line), *besides)
        self.asked_at = clock.now()
        reply = self._carefully(Txn(guards, (*unknown, *writes, *writing), reads), self.request.ttl)
        if not reply.done:
            # The reason may be another one than the line: what makes tokens was raised.
            self.store.base.forget()
            return self.store.read(self.request.name, self.request.owner, reply, reads)
        if self.store.transport.breaks != self.breaks:
            self.store.forget()
            # What it was conditional on may be a revision of a later time, if a snapshot was restored meanwhile.
            self.store.transport.txn(Txn((), (Delete(self.keys.entry(entry.owner)),)))
            return self.look()
        line = _with_known(line, reply.rows)
        if changed:
            self._changed_from(line.capacity.permits)
            line = replace(line, capacity=replace(stated, mod=reply.revision))
        entry = replace(entry, create=reply.revision, mod=reply.revision, lease=session.id)
        entries = (*line.entries, entry)
        self.store.remember(
            self.request.name, replace(line, revision=reply.revision, entries=entries, total=len(entries), own=None)
        )
        return self._granted(entry, session)

    def join(self) -> Line:
        """Enter the line, whoever is in it."""
        base, same_base = self.store.base.now()
        lease, entry = self.store.waiting_lease().id, self._entry(base, since=0.0)
        key = self.keys.entry(entry.owner)
        guards = (Compare(key, "create", "EQUAL", 0), same_base)
        reads = self.store.reads(self.request.name, self.request.owner, self.request.capacity)
        self.asked_at = clock.now()
        in_full = self.store.reads(self.request.name, self.request.owner, self.request.capacity, in_full=True)
        reply = self._carefully(Txn(guards, (Put(key, entry.written(), lease), *reads), in_full), self.keep)
        if not reply.done:
            self.store.base.forget()
            return self.store.read(self.request.name, self.request.owner, reply, in_full)
        line = self.store.read(self.request.name, self.request.owner, reply, reads)
        return replace(line, own=replace(entry, create=reply.revision, mod=reply.revision, lease=lease))

    def take_over(self, own: Entry, lease: int) -> Line:
        """Let a place that was taken by another process, or for other permits, be ours as it is wanted now."""
        key, entry = self.keys.entry(own.owner), replace(own, permits=self.request.permits, ear=self._ear())
        unchanged = Compare(key, "mod", "EQUAL", own.mod)
        self.store.transport.txn(Txn((unchanged,), (Put(key, entry.written(), lease),)))
        return self.look()

    def state_capacity(self, line: Line) -> Line:
        """Let the capacity that the request knows count from now on, unless somebody came since `line` was read."""
        name = self.request.name
        reads = self.store.reads(name, self.request.owner, self.request.capacity)
        put = self._stating(line.stating(self.request.capacity))
        reply = self.store.transport.txn(Txn((unchanged_since(self.keys, line),), (put, *reads), reads))
        after = self.store.read(name, self.request.owner, reply, reads)
        if reply.done:
            self._changed_from(line.capacity.permits)
            held = {entry.create for entry in line.holders}
            tell(self.store, name, [each for each in after.holders if each.create not in held])
        return after

    def claim(self, mine: Mine) -> Grant | None:
        """Let the permits that the owner has last for its ttl; None if it has none any more."""
        session = self.store.sessions.get(self.request.ttl)
        held = 0.0 if mine.taken_at is None else clock.now() - mine.taken_at
        entry = self._entry(mine.token - mine.create, since=time.time() - held)
        entry = replace(entry, permits=mine.permits, create=mine.create)
        self.asked_at = clock.now()
        revision = claim(self.store, mine, entry, session, self._no_longer_away())
        if revision is None:
            return None
        return self._granted(replace(entry, mod=revision), session)

    def stay_out(self, line: Line, besides: tuple[Compare, ...] = (), writing: tuple[Put, ...] = ()) -> bool:
        """Take no permits, if they are as free as in `line`, but write something else; return whether it was done."""
        stated = line.stating(self.request.capacity)
        changed = line.capacity.permits != stated.permits
        writes = (*writing, *self._no_longer_away(), *([self._stating(stated)] if changed else ()))
        if not writes:
            return True
        reply = self.store.transport.txn(Txn((unchanged_since(self.keys, line), *besides), writes))
        if reply.done and changed:
            now = replace(line, revision=reply.revision, capacity=replace(stated, mod=reply.revision))
            self.store.remember(self.request.name, now)
        return reply.done

    def _no_longer_away(self) -> tuple[Op, ...]:
        place = self.request.place
        return () if place is None else (Delete(self.keys.away_place(place.ticket)),)

    def _carefully(self, txn: Txn, lasts: float) -> TxnReply:
        """Run a transaction that makes an entry, and see to it that the entry is over in time whatever happens.

        No answer may come, or an exception from a signal: then nobody knows of an entry that this process keeps alive.
        """
        name, owner = self.request.name, self.request.owner
        self.store.table.doubt(name, owner, self.asked_at + lasts)
        reply = self.store.transport.txn(txn)
        if not reply.done:
            self.store.table.believe(name, owner)
        return reply

    def _granted(self, entry: Entry, session: Session) -> Grant:
        request = self.request
        known = self.store.table.find(request.name, request.owner)
        taken_at = self.asked_at if known is None or known.taken_at is None else known.taken_at
        mine = Mine(
            request.name,
            entry.owner,
            entry.create,
            entry.mod,
            entry.permits,
            request.ttl,
            entry.token,
            session.id,
            ends=min(self.asked_at + request.ttl, session.alive_until),
            taken_at=taken_at,
        )
        self.store.table.add(mine)
        grant = mine.grant()
        return grant if self.capacity_was is None else replace(grant, capacity_was=self.capacity_was)

    def _entry(self, base: int, since: float) -> Entry:
        request, now = self.request, time.time()
        return Entry(request.owner, request.permits, request.ttl, now, since, base, self._ear(), request.info)

    def _ear(self) -> str:
        return self.request.place.address or "" if self.request.place is not None else ""

    def _stating(self, capacity: Capacity) -> Put:
        return Put(self.keys.capacity, capacity.written(), self.store.sessions.retention())

    def _changed_from(self, permits: int) -> None:
        if permits not in (0, self.request.capacity):
            self.capacity_was = permits


def claim(store: Store, mine: Mine, entry: Entry, session: Session, besides: Sequence[Op] = ()) -> int | None:
    """Let an entry that holds permits end with `session`; return the revision, None if it is gone."""
    key = store.keys.limit(mine.name).entry(mine.owner)
    guards = (Compare(key, "create", "EQUAL", mine.create), Compare(key, "value", "LESS", CLOSED))
    reply = store.transport.txn(Txn(guards, (Put(key, entry.written(), session.id), *besides)))
    if reply.done:
        return reply.revision
    store.table.drop(mine.name, mine.owner)
    return None


def _with_known(line: Line, rows: Sequence[Rows]) -> Line:
    """Return `line` with what was read beside, of a limit of which nothing was known before."""
    if not rows:
        return line
    capacity, hold = (each.kvs for each in rows)
    return replace(
        line,
        capacity=Capacity.read(capacity[0]) if capacity else line.capacity,
        usual=Usual.read(hold[0]) if hold else line.usual,
    )
