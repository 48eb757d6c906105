"""The step that takes permits, or a place in line.

A listening waiter just enters the line: whoever is far enough in front holds permits, so there is nothing to agree on
and nothing to try again, however many enter at once. A caller that does not want to wait must not be in the line of
those who do, so its entry is made on condition that nobody entered since it looked; it guesses from what it saw last,
so one round trip is enough when nobody is in the way.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from tasklocks import clock
from tasklocks.backends.base import GRANT_TTL, HOLDERS_SHOWN
from tasklocks.backends.etcd.ending import drop_lapsed, tell
from tasklocks.backends.etcd.keys import CLOSED, Away, Capacity, Entry, LimitKeys, Usual
from tasklocks.backends.etcd.line import Line
from tasklocks.backends.etcd.mine import Mine
from tasklocks.backends.etcd.ops import Compare, Delete, Op, Put, Range, Txn, prefix_end
from tasklocks.backends.etcd.sessions import Session
from tasklocks.backends.etcd.store import Store
from tasklocks.types import AcquireRequest, Busy, Grant, Holder, Place

__all__ = ["acquire", "claim", "holder"]

_TRIES = 20


def acquire(store: Store, request: AcquireRequest) -> Grant | Busy:
    """See `Backend.acquire`."""
    drop_lapsed(store, request.name)
    return _Wish(store, request).answer()


@dataclass(slots=True)
class _Wish:
    """One acquire and what it has found out."""

    store: Store
    request: AcquireRequest
    was: int | None = None
    asked_at: float = 0.0

    @property
    def keys(self) -> LimitKeys:
        return self.store.keys.limit(self.request.name)

    @property
    def place(self) -> Place | None:
        return self.request.place

    @property
    def listens(self) -> bool:
        return self.place is not None and self.place.address is not None

    def answer(self) -> Grant | Busy:
        name, owner = self.request.name, self.request.owner
        mine = self.store.table.find(name, owner)
        stated = self.store.known(name).capacity.permits == self.request.capacity
        if stated and mine is not None and mine.taken_at is not None and (grant := self.claimed(mine)):
            return grant
        line = self.look() if mine is not None else self.store.known(name)
        for _ in range(_TRIES):
            answer = self.attempt(line)
            if not isinstance(answer, Line):
                return answer
            line = answer
        return self.busy(line, None)

    def attempt(self, line: Line) -> Grant | Busy | Line:
        """Return the answer, or what is known now if it could not be given."""
        if line.own is not None and line.own.owner == self.request.owner:
            return self.again(line, line.own)
        if line.admits(self.request.permits, self.request.capacity):
            return self.enter(line)
        if line.capacity.permits != self.request.capacity:
            return self.state_capacity(line) if line.revision else self.look()
        if self.listens:
            return self.join()
        return self.stay_away(self.look())

    def look(self) -> Line:
        reads = self.store.reads(self.request.name, self.request.owner, self.request.capacity)
        self.asked_at = clock.now()
        reply = self.store.transport.txn(Txn((), reads))
        return self.store.read(self.request.name, reply, reply.rows)

    def again(self, line: Line, own: Entry) -> Grant | Busy | Line:
        """Answer an owner that is in line already."""
        if line.capacity.permits != self.request.capacity:
            return self.state_capacity(line)
        if own.closed:
            return self.busy(line, None)
        if line.is_served(own):
            return self.claimed(self.note(own, own.mod)) or self.look()
        session = self.store.waiting_lease()
        if (own.permits, own.lease) != (self.request.permits, session.id):
            return self.take_over(own, session)
        return self.busy(line, self.note(own, own.mod))

    def take_over(self, own: Entry, session: Session) -> Line:
        """Let a place that was taken by another process, or for other permits, be ours as it is wanted now."""
        entry = replace(own, permits=self.request.permits, ear=self.ear())
        unchanged = Compare(self.keys.entry(own.owner), "mod", "EQUAL", own.mod)
        self.store.transport.txn(Txn((unchanged,), (Put(self.keys.entry(own.owner), entry.written(), session.id),)))
        return self.look()

    def enter(self, line: Line) -> Grant | Line:
        """Take permits on condition that nobody came since `line` was read."""
        store, request = self.store, self.request
        session, entry = store.sessions.get(request.ttl), self.entry(since=time.time())
        capacity = line.stating(request.capacity)
        unknown, changed = line.revision == 0, line.capacity.permits != request.capacity
        guards = [store.base.unchanged, self.nobody_since(line.revision)]
        writes: list[Op] = [Put(self.keys.entry(request.owner), entry.written(), session.id)]
        if not unknown:
            guards.append(Compare(self.keys.capacity, "mod", "EQUAL", line.capacity.mod))
        if changed:
            writes.append(Put(self.keys.capacity, capacity.written(), store.sessions.retention()))
        if self.place is not None:
            writes.append(Delete(self.keys.away_place(self.place.ticket)))
        before = (Range(self.keys.capacity), Range(self.keys.hold)) if unknown else ()
        self.asked_at = clock.now()
        reads = store.reads(request.name, request.owner, request.capacity)
        reply = store.transport.txn(Txn(tuple(guards), (*before, *writes), reads))
        if not reply.done:
            return self.refused(store.read(request.name, reply, reply.rows))
        if unknown:
            said, usual = reply.rows[0].kvs, reply.rows[1].kvs
            line = replace(
                line,
                capacity=Capacity.read(said[0]) if said else Capacity(),
                usual=Usual.read(usual[0]) if usual else Usual(),
            )
        if changed:
            self.changed_from(line.capacity.permits)
            line = replace(line, capacity=replace(capacity, mod=reply.revision))
        entry = replace(entry, create=reply.revision, mod=reply.revision, lease=session.id)
        entries = (*line.entries, entry)
        line = replace(line, revision=reply.revision, entries=entries, total=len(entries), own=None)
        store.remember(request.name, line)
        return self.granted(entry, session, reply.revision)

    def refused(self, line: Line) -> Line:
        """Look for another reason than the line: what makes tokens may have been raised."""
        self.store.base.forget()
        return line

    def join(self) -> Grant | Busy | Line:
        """Enter the line, whoever is in it."""
        store, request = self.store, self.request
        session, entry = store.waiting_lease(), self.entry(since=0.0)
        absent = Compare(self.keys.entry(request.owner), "create", "EQUAL", 0)
        put = Put(self.keys.entry(request.owner), entry.written(), session.id)
        reads = store.reads(request.name, request.owner, request.capacity)
        self.asked_at = clock.now()
        reply = store.transport.txn(Txn((absent, store.base.unchanged), (put, *reads), reads))
        line = store.read(request.name, reply, reply.rows)
        if not reply.done:
            return self.refused(line)
        own = line.own
        if own is None or line.is_served(own) or line.capacity.permits != request.capacity:
            return line
        mine = self.note(own, own.mod)
        in_front = line.in_front_of(own)
        mine.ahead = line.waiting - 1 if in_front is None else in_front
        return self.busy(line, mine)

    def state_capacity(self, line: Line) -> Line:
        """Let the capacity that the request knows count from now on."""
        store, request = self.store, self.request
        stated = line.stating(request.capacity)
        guards = (
            Compare(self.keys.capacity, "mod", "EQUAL", line.capacity.mod),
            self.nobody_since(line.revision),
        )
        put = Put(self.keys.capacity, stated.written(), store.sessions.retention())
        reads = store.reads(request.name, request.owner, request.capacity)
        reply = store.transport.txn(Txn(guards, (put, *reads), reads))
        after = store.read(request.name, reply, reply.rows)
        if reply.done:
            self.changed_from(line.capacity.permits)
            held = {entry.create for entry in line.holders}
            tell(store, request.name, [each for each in after.holders if each.create not in held])
        return after

    def stay_away(self, line: Line) -> Busy | Line:
        """Answer one who does not listen."""
        again = line.own is not None or line.capacity.permits != self.request.capacity
        if again or line.admits(self.request.permits, self.request.capacity):
            return line
        if self.place is None:
            return self.busy(line, None)
        key, now = self.keys.away_place(self.place.ticket), time.time()
        known = [away for away in line.aways if away.ticket == self.place.ticket and away.until > now]
        since = known[0].since if known else now
        away = Away(self.place.ticket, self.request.permits, since, now + self.place.keep, self.request.info)
        over = [each for each in line.aways if each.until <= now and each.ticket != away.ticket][:50]
        drops = [Delete(self.keys.away_place(each.ticket)) for each in over]
        put = Put(key, away.written(), self.store.sessions.retention())
        self.store.transport.txn(Txn((), (put, *drops)))
        if not known:
            line = replace(line, aways=(*line.aways, away), aways_total=line.aways_total + 1)
        return self.busy(line, None)

    def entry(self, since: float) -> Entry:
        request = self.request
        base = self.store.base.value
        return Entry(request.owner, request.permits, request.ttl, time.time(), since, base, self.ear(), request.info)

    def ear(self) -> str:
        return self.place.address or "" if self.place is not None else ""

    def nobody_since(self, revision: int) -> Compare:
        line = self.keys.line
        return Compare(line, "mod", "LESS", revision + 1, prefix_end(line))

    def note(self, own: Entry, mod: int) -> Mine:
        """Keep the place of an entry that waits."""
        keep = self.place.keep if self.place is not None else self.request.ttl
        known = self.store.table.find(self.request.name, own.owner)
        if known is not None and known.create == own.create and not known.closed:
            if known.taken_at is None:
                known.mod, known.ends, known.lease = mod, self.asked_at + keep, own.lease
            return known
        mine = Mine(
            self.request.name, own.owner, own.create, mod, own.permits, self.request.ttl, own.token, own.lease,
            self.asked_at + keep,
        )  # fmt: skip
        if self.store.table.add(mine):
            self.store.ears.tell(mine.name, mine.owner, mine.create)
        return mine

    def claimed(self, mine: Mine) -> Grant | None:
        """Extend the lease that the owner has; None if it has none any more."""
        store, request = self.store, self.request
        session = store.sessions.get(request.ttl)
        entry = replace(
            self.entry(since=time.time() - _held_for(mine)),
            permits=mine.permits,
            base=mine.token - mine.create,
        )
        self.asked_at = clock.now()
        done = claim(store, mine, entry, session, self.place)
        if done is None:
            return None
        return self.granted(replace(entry, create=mine.create), session, done)

    def granted(self, entry: Entry, session: Session, mod: int) -> Grant:
        request = self.request
        ends = min(self.asked_at + request.ttl, session.alive_until)
        known = self.store.table.find(request.name, request.owner)
        taken_at = known.taken_at if known is not None else None
        mine = Mine(
            request.name, request.owner, entry.create, mod, entry.permits, request.ttl, entry.token, session.id, ends,
            self.asked_at if taken_at is None else taken_at,
        )  # fmt: skip
        self.store.table.add(mine)
        return replace(mine.grant(), capacity_was=self.was)

    def changed_from(self, permits: int) -> None:
        if permits not in (0, self.request.capacity):
            self.was = permits

    def busy(self, line: Line, mine: Mine | None) -> Busy:
        now, wall = clock.now(), time.time()
        holders = [holder(self.store, self.request.name, entry, line, now) for entry in line.holders]
        return Busy(
            retry_after=min((each.expires_in for each in holders), default=None),
            ahead=self.ahead(line, mine),
            holders=tuple(holders[:HOLDERS_SHOWN]),
            capacity=line.capacity.permits,
            usual_hold=line.usual.hold,
            server_time=wall,
            asked_at=self.asked_at,
            capacity_was=self.was,
        )

    def ahead(self, line: Line, mine: Mine | None) -> int:
        if mine is not None:
            own = line.own
            in_front = line.in_front_of(own) if own is not None else None
            mine.ahead = mine.ahead if in_front is None else in_front
            return mine.ahead
        tickets = [away.ticket for away in line.away_now()]
        if self.place is not None and self.place.ticket in tickets:
            return line.waiting + tickets.index(self.place.ticket)
        return line.waiting + line.away_count


def claim(store: Store, mine: Mine, entry: Entry, session: Session, place: Place | None) -> int | None:
    """Let an entry that holds permits end with `session`; return the revision, None if it is gone."""
    keys = store.keys.limit(mine.name)
    key = keys.entry(mine.owner)
    guards = (Compare(key, "create", "EQUAL", mine.create), Compare(key, "value", "LESS", CLOSED))
    writes: tuple[Op, ...] = (Put(key, entry.written(), session.id),)
    if place is not None:
        writes += (Delete(keys.away_place(place.ticket)),)
    reply = store.transport.txn(Txn(guards, writes))
    if reply.done:
        return reply.revision
    store.table.drop(mine.name, mine.owner)
    return None


def holder(store: Store, name: str, entry: Entry, line: Line, now: float) -> Holder:
    """Return what is to be said of an entry that holds permits.

    How long the lease of another process lasts is only known to etcd; what is said is the most that it can be.
    """
    mine = store.table.find(name, entry.owner)
    if mine is not None and mine.create == entry.create and (mine.taken_at is not None or mine.closed):
        left = max(0.0, mine.ends - now)
    else:
        left = entry.ttl if entry.since or entry.closed else min(entry.ttl, GRANT_TTL)
    since = entry.since or max(entry.joined, line.usual.released)
    return Holder(entry.owner, entry.permits, entry.token, since, left, entry.info)


def _held_for(mine: Mine) -> float:
    return 0.0 if mine.taken_at is None else clock.now() - mine.taken_at
