"""Steps that take entries out of a line, and the news for those who are served by that."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from tasklocks import clock
from tasklocks.backends.base import moving_average
from tasklocks.backends.etcd.keys import CLOSED, Entry, LimitKeys, Usual
from tasklocks.backends.etcd.line import Line, newly_served
from tasklocks.backends.etcd.mine import Mine
from tasklocks.backends.etcd.news import message
from tasklocks.backends.etcd.ops import Compare, Delete, KeyValue, Op, Put, Range, Txn, prefix_end
from tasklocks.backends.etcd.store import Store, sorted_out

__all__ = ["drop_lapsed", "force_release", "release", "tell", "unchanged_since"]

_AT_ONCE = 50
_NEARLY = {"rel_tol": 0.1, "abs_tol": 0.005}  # of hold times, in seconds
_TRIES = 20
_UNDER_WAY = 5.0


def release(store: Store, name: str, owner: str, keep: float) -> bool:
    """End what `owner` has of a limit; return whether that was a live lease."""
    drop_lapsed(store, name)
    if keep > 0:
        return _close(store, name, owner, keep)
    mine = store.table.find(name, owner)
    if mine is not None and not mine.create:
        mine = None
    answer = _guessing(store, name, owner, mine)
    if isinstance(answer, bool):
        return answer
    if answer.own is None and mine is not None:
        store.table.drop(name, owner)
    return False


def _guessing(store: Store, name: str, owner: str, mine: Mine | None) -> bool | Line:
    """Delete an entry as cheaply as may be: by what was known, by what is known now, and then in any case."""
    known = store.known(name)
    if mine is not None and _is_alone(known, mine):
        line = _alone(store, mine)
    else:
        line = _without(store, name, owner, mine, known)
    for again in (True, False):
        if isinstance(line, bool) or line.own is None or line.own.closed:
            return line
        line = _without(store, name, owner, mine, line if again else Line())
    return line


def _without(store: Store, name: str, owner: str, mine: Mine | None, known: Line) -> bool | Line:
    """Delete an entry and tell those who are served by that, as far as that is known; return whether it held permits.

    If what is known is wrong, or there is no such entry, nothing is done: return the line instead.
    """
    told = [each for each in _served_by(known, owner) if each.ear != store.ears.address]
    key, reads = store.keys.limit(name).entry(owner), store.reads(name, owner, 0)
    compare = (Compare(key, "value", "LESS", CLOSED), *_guards(store, name, told, known))
    before = () if mine is not None else (Range(key),)
    left = _left_by(known, owner)
    writes = (Delete(key), *_usual(store, name, mine), *_news(store, name, told, left))
    # Of one permit there is one next holder, and reading the line again costs the more the longer it is.
    certain = bool(told) and known.capacity.permits == 1
    reply = store.transport.txn(Txn(compare, (*before, *writes, *(() if certain else reads)), reads))
    if certain and reply.done:
        store.learn(name, left)
        store.table.drop(name, owner)
        return True
    line = store.read(name, owner, reply, reads)
    if not reply.deleted:
        return line
    store.table.drop(name, owner)
    entry = _as_entry(mine) if mine is not None else Entry.read(reply.rows[0].kvs[0])
    heard = {each.create for each in told}
    tell(store, name, [each for each in newly_served(line, [entry]) if each.create not in heard])
    return (mine is not None and mine.taken_at is not None) or _held(line, entry)


def _is_alone(line: Line, mine: Mine) -> bool:
    return line.total == 1 and [(each.create, each.closed) for each in line.entries] == [(mine.create, False)]


def _alone(store: Store, mine: Mine) -> bool | Line:
    """Delete the only entry of a limit on condition that nobody came since; else return the line.

    That nobody came is cheaper to compare than to read. It is compared by what changed in the line, and closing the
    entry, in another process, would be such a change.
    """
    known, reads = store.known(mine.name), store.reads(mine.name, mine.owner, 0)
    keys = store.keys.limit(mine.name)
    writes = (Delete(keys.entry(mine.owner)), *_usual(store, mine.name, mine))
    reply = store.transport.txn(Txn((unchanged_since(keys, known),), writes, reads))
    if not reply.done:
        return store.read(mine.name, mine.owner, reply, reads)
    store.remember(mine.name, replace(known, revision=reply.revision, entries=(), total=0))
    store.table.drop(mine.name, mine.owner)
    if not reply.deleted:
        return False
    return mine.taken_at is not None or _held(replace(known, entries=()), _as_entry(mine))


def unchanged_since(keys: LimitKeys, line: Line) -> Compare:
    """True as long as nobody entered, and nobody stated a capacity, since `line` was read.

    Who left since then does not matter: that only frees permits.
    """
    # Of a limit of which nothing is known, the capacity may be there.
    first = keys.capacity if line.revision else keys.line
    return Compare(first, "mod", "LESS", line.revision + 1, keys.line_end)


def drop_lapsed(store: Store, name: str | None = None) -> None:
    """Take away what this process has and what is over, of one limit or of all."""
    for mine in store.table.lapsed(clock.now(), name):
        _drop(store, mine)


def _drop(store: Store, mine: Mine) -> None:
    key, reads = store.keys.limit(mine.name).entry(mine.owner), store.reads(mine.name, mine.owner, 0)
    # Unless another process took the lease over.
    untouched = Compare(key, "mod", "EQUAL", mine.mod)
    reply = store.transport.txn(Txn((untouched,), (Delete(key), *reads), (Range(key),)))
    if reply.done:
        line = store.read(mine.name, mine.owner, reply, reads)
        tell(store, mine.name, newly_served(line, [_as_entry(mine)]))
    elif _is_ours(store, mine, reply.rows[0].kvs):
        return
    if reply.done and not mine.mod and not mine.missed:
        # The transaction that makes it may still be under way.
        mine.missed, mine.ends = True, clock.now() + _UNDER_WAY
    elif store.table.find(mine.name, mine.owner) is mine:
        store.table.drop(mine.name, mine.owner)


def _is_ours(store: Store, mine: Mine, kvs: Sequence[KeyValue]) -> bool:
    """Return whether an entry that changed behind our back ends with a lease of ours; then it is for us to drop."""
    if not kvs or kvs[0].lease not in store.sessions.made:
        return False
    entry = Entry.read(kvs[0])
    mine.create, mine.mod, mine.permits, mine.token = entry.create, entry.mod, entry.permits, entry.token
    return True


def force_release(store: Store, name: str, owner: str | None) -> int:
    """End the lease of `owner`, or every lease; return how many were ended."""
    drop_lapsed(store, name)
    keys, ended = store.keys.limit(name), 0
    for _ in range(_TRIES):
        line = _whole(store, name)
        doomed = [each for each in line.holders if owner in (None, each.owner)][:_AT_ONCE]
        if not doomed:
            return ended
        unchanged = tuple(Compare(keys.entry(each.owner), "mod", "EQUAL", each.mod) for each in doomed)
        deletes = tuple(Delete(keys.entry(each.owner)) for each in doomed)
        reads = store.reads(name, "", 0)
        reply = store.transport.txn(Txn(unchanged, (*deletes, *reads)))
        if not reply.done:
            continue
        ended += len(doomed)
        for each in doomed:
            store.table.drop(name, each.owner)
        tell(store, name, newly_served(store.read(name, "", reply, reads), doomed))
        if len(doomed) < _AT_ONCE:
            return ended
    return ended


def tell(store: Store, name: str, served: Sequence[Entry]) -> None:
    """Let the waiters of other processes, and of this one, know that they were served."""
    for entry in served:
        if entry.ear == store.ears.address:
            store.ears.tell(name, entry.owner, entry.create)
    others = [entry for entry in served if entry.ear not in ("", store.ears.address)]
    for start in range(0, len(others), _AT_ONCE):
        _write_news(store, name, others[start : start + _AT_ONCE])


def _write_news(store: Store, name: str, served: Sequence[Entry]) -> None:
    reply = store.transport.txn(Txn(_ears_open(store, served), _news(store, name, served, store.known(name))))
    if not reply.done and len(served) > 1:
        # One of them is dead, and its key is gone.
        for entry in served:
            _write_news(store, name, [entry])


def _as_entry(mine: Mine) -> Entry:
    return Entry(mine.owner, mine.permits, mine.ttl, 0.0, 0.0, mine.token - mine.create, "", "", create=mine.create)


def _held(line: Line, entry: Entry) -> bool:
    before = sorted([*line.entries, entry], key=lambda each: each.create)
    return replace(line, entries=tuple(before)).is_served(entry)


def _served_by(line: Line, owner: str) -> list[Entry]:
    """Guess who would be served if `owner` left."""
    leaving = [entry for entry in line.entries if entry.owner == owner]
    if not leaving or line.revision == 0:
        return []
    served = newly_served(_left_by(line, owner), leaving)
    return [entry for entry in served if entry.ear][:_AT_ONCE]


def _left_by(line: Line, owner: str) -> Line:
    """Return the line without an owner.

    It counts as read when `line` was: who leaves only frees permits.
    """
    rest = tuple(entry for entry in line.entries if entry.owner != owner)
    return replace(line, entries=rest, total=line.total - len(line.entries) + len(rest), own=None)


def _guards(store: Store, name: str, told: Sequence[Entry], line: Line) -> tuple[Compare, ...]:
    """What must hold for the guess that was made of `line` to be right."""
    if not told:
        return ()
    keys = store.keys.limit(name)
    unchanged = Compare(keys.capacity, "mod", "EQUAL", line.capacity.mod)
    there = tuple(Compare(keys.entry(each.owner), "create", "EQUAL", each.create) for each in told)
    return (unchanged, *there, *_ears_open(store, told))


def _ears_open(store: Store, served: Sequence[Entry]) -> tuple[Compare, ...]:
    return tuple(Compare(store.keys.ear(ear), "create", "GREATER", 0) for ear in {each.ear for each in served})


def _news(store: Store, name: str, served: Sequence[Entry], line: Line) -> tuple[Op, ...]:
    by_ear: dict[str, list[Entry]] = defaultdict(list)
    for entry in served:
        by_ear[entry.ear].append(entry)
    # A key of another process must end with that process, so it keeps its lease.
    return tuple(Put(store.keys.ear(ear), message(name, told, line), keep_lease=True) for ear, told in by_ear.items())


def _usual(store: Store, name: str, mine: Mine | None) -> tuple[Op, ...]:
    """Count one more hold."""
    if mine is None or mine.taken_at is None or mine.closed:
        return ()
    usual = store.known(name).usual
    hold = moving_average(usual.hold, clock.now() - mine.taken_at)
    # Each write costs, so what is nearly as it was is written once a second only.
    if usual.hold is not None and math.isclose(hold, usual.hold, **_NEARLY) and time.time() < usual.released + 1:
        return ()
    written = Usual(round(hold, 6), time.time()).written()
    return (Put(store.keys.limit(name).hold, written, store.sessions.retention()),)


def _close(store: Store, name: str, owner: str, keep: float) -> bool:
    """Release a lease, but keep its permits taken."""
    key = store.keys.limit(name).entry(owner)
    for _ in range(_TRIES):
        line = store.look(name, owner, 0)
        mine, entry = store.table.find(name, owner), line.own
        if entry is None or entry.closed:
            return False
        if (mine is None or mine.taken_at is None) and not line.is_served(entry):
            return release(store, name, owner, 0.0)
        now, lease = clock.now(), store.sessions.once(keep)
        kept = replace(entry, closed=True, ttl=keep)
        unchanged = Compare(key, "mod", "EQUAL", entry.mod)
        done = store.transport.txn(Txn((unchanged,), (Put(key, kept.written(), lease), *_usual(store, name, mine))))
        if done.done:
            ends = now + keep
            store.table.add(
                Mine(
                    name, owner, entry.create, done.revision, entry.permits, keep, entry.token, lease, ends, None, True
                )
            )
            return True
    return False


def _whole(store: Store, name: str) -> Line:
    keys = store.keys.limit(name)
    reply = store.transport.txn(Txn((), (Range(keys.all, prefix_end(keys.all)),)))
    return sorted_out(keys, "", reply.revision, reply.rows[0])
