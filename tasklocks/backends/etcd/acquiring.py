"""The step that takes permits, or a place in line.

A listening waiter just enters the line: whoever is far enough in front holds permits, so there is nothing to agree on
and nothing to try again, however many enter at once. A caller that does not want to wait must not be in the line of
those who do, so its entry is made on condition that nobody entered since it looked; it guesses from what it saw last,
so one round trip is enough when nobody is in the way.
"""

from __future__ import annotations

import time
from dataclasses import replace

from tasklocks.backends.etcd.ending import drop_lapsed
from tasklocks.backends.etcd.keys import Away, Entry
from tasklocks.backends.etcd.line import Line
from tasklocks.backends.etcd.mine import Mine
from tasklocks.backends.etcd.ops import Delete, Put, Txn
from tasklocks.backends.etcd.sessions import LATE
from tasklocks.backends.etcd.showing import busy
from tasklocks.backends.etcd.store import Store
from tasklocks.backends.etcd.wish import Wish
from tasklocks.types import AcquireRequest, Busy, Grant, Place

__all__ = ["acquire", "stay_away"]

_TRIES = 20
_SWEPT = 50
_ASKED = 3


def acquire(store: Store, request: AcquireRequest) -> Grant | Busy:
    """See `Backend.acquire`."""
    wish = Wish(store, request, store.breaks)
    drop_lapsed(store, request.name)
    mine = store.table.find(request.name, request.owner)
    known = store.known(request.name)
    if mine is not None and mine.taken_at is not None and known.capacity.permits == request.capacity:
        grant = wish.claim(mine)
        if grant is not None:
            return grant
        mine = None
    line = known if mine is None else wish.look()
    for _ in range(_TRIES):
        answer = _attempt(wish, line)
        if not isinstance(answer, Line):
            return answer
        line = answer
    # Others came first each time.
    return busy(wish, line)


def _attempt(wish: Wish, line: Line) -> Grant | Busy | Line:
    """Return the answer, or what is known now if it could not be given."""
    request = wish.request
    if line.own is not None and line.own.owner == request.owner:
        return _again(wish, line, line.own)
    if line.admits(request.permits, request.capacity):
        return wish.enter(line)
    if line.capacity.permits != request.capacity:
        return wish.state_capacity(line) if line.revision else wish.look()
    if wish.listens:
        return _join(wish)
    return stay_away(wish, wish.look())


def _again(wish: Wish, line: Line, own: Entry) -> Grant | Busy | Line:
    """Answer an owner that is in line already."""
    if line.capacity.permits != wish.request.capacity:
        return wish.state_capacity(line)
    if own.closed:
        return busy(wish, line)
    if line.is_served(own):
        return wish.claim(_noted(wish, own)) or wish.look()
    lease = wish.store.waiting_lease().id
    if (own.permits, own.lease) != (wish.request.permits, lease):
        return wish.take_over(own, lease)
    answer = busy(wish, line, _noted(wish, own))
    return answer if answer.ahead else replace(answer, retry_after=_first_end(wish.store, line, answer))


def _first_end(store: Store, line: Line, answer: Busy) -> float | None:
    """Return when the first in line should look again, lest it be late when a holder is dead.

    Only who has waited for a while asks for that, for it costs a round trip.
    """
    others = {entry.lease for entry in line.holders if entry.lease not in store.sessions.made}
    ends = [max(0, store.transport.remaining(lease)) + LATE for lease in sorted(others)[:_ASKED]]
    known = [] if answer.retry_after is None else [answer.retry_after]
    return min([*ends, *known], default=None)


def _join(wish: Wish) -> Busy | Line:
    line = wish.join()
    own = line.own
    if own is None or line.is_served(own) or line.capacity.permits != wish.request.capacity:
        return line
    mine = _noted(wish, own)
    mine.ahead = line.waiting - 1
    return busy(wish, line, mine)


def stay_away(wish: Wish, line: Line) -> Busy | Line:
    """Answer one who does not listen; return the line as it is known if the answer is not that it is busy."""
    request, place = wish.request, wish.request.place
    if (
        line.own is not None
        or line.capacity.permits != request.capacity
        or line.admits(request.permits, request.capacity)
    ):
        return line
    if place is not None:
        line = _counted(wish, line, place)
    return busy(wish, line)


def _counted(wish: Wish, line: Line, place: Place) -> Line:
    """Enter or refresh the place of one who comes back by itself; return the line with it."""
    now, keys = time.time(), wish.keys
    known = [away for away in line.aways if away.ticket == place.ticket and away.until > now]
    since = known[0].since if known else now
    away = Away(place.ticket, wish.request.permits, since, now + place.keep, wish.request.info)
    over = [each for each in line.aways if each.until <= now and each.ticket != place.ticket][:_SWEPT]
    put = Put(keys.away_place(place.ticket), away.written(), wish.store.sessions.retention())
    wish.store.transport.txn(Txn((), (put, *(Delete(keys.away_place(each.ticket)) for each in over))))
    if known:
        return line
    return replace(line, aways=(*line.aways, away), aways_total=line.aways_total + 1)


def _noted(wish: Wish, own: Entry) -> Mine:
    """Keep the place of an entry that waits, from now on for as long as the request says."""
    request, table = wish.request, wish.store.table
    ends = wish.asked_at + wish.keep
    known = table.find(request.name, own.owner)
    if known is not None and known.create == own.create:
        if known.taken_at is None:
            known.mod, known.ends, known.lease = own.mod, ends, own.lease
        return known
    mine = Mine(request.name, own.owner, own.create, own.mod, own.permits, request.ttl, own.token, own.lease, ends)
    if table.add(mine):
        wish.store.ears.tell(mine.name, mine.owner, mine.create)
    return mine
