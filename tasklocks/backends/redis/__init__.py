"""`redis://`, `rediss://`, `redis+sentinel://`: limits in Redis ≥ 6.2 or Valkey.

Does not guarantee: that a lease survives the loss of the server's data. Replication is asynchronous, so a failover can
forget a lease, and a restart without persistence forgets all; fencing tokens grow on all the same, because a lost
counter starts from the server's clock. Needs that the server evicts no keys (`maxmemory-policy noeviction`).

A step is one script, so it is atomic and one round trip. All keys of a limit share a hash tag. Time is the server's.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tasklocks import clock
from tasklocks.backends.base import RETENTION, Change, ReservesByUpdate
from tasklocks.backends.redis import _rates, _texts, _together, _url
from tasklocks.backends.redis._calls import Call, Calls
from tasklocks.backends.redis._ears import Ears, Listener
from tasklocks.backends.redis._scripts import (
    ABOUT,
    ACQUIRE,
    FORCE_RELEASE,
    INSPECT,
    PAGE,
    RELEASE,
    RENEW,
    Script,
    micros,
    packed,
)
from tasklocks.backends.several import Slots, reserving
from tasklocks.errors import AnswerLost
from tasklocks.fork import PerProcess
from tasklocks.types import (
    AcquireRequest,
    Busy,
    Capabilities,
    Grant,
    Holder,
    LimitState,
    Page,
    Place,
    Refused,
    ReserveRequest,
    Slot,
    Taken,
    Waiter,
)

__all__ = ["RedisBackend"]

_KEYS = ("meta", "leases", "line", "lapses", "away", "away_lapses")
T = TypeVar("T")
_NOWHERE = Place("", 0.0)


class RedisBackend(ReservesByUpdate):
    """The limits of all processes that use the same database of the same Redis under the same prefix."""

    capabilities = Capabilities(push=True, server_clock=True, strict_order=True, multi_host=True, together=True)

    def __init__(self, url: str, *, prefix: str = "tasklocks", **options: Any) -> None:
        target = _url.read(url, options)
        self._where = target.where
        # The first brace ends the prefix and the second the name, so no name reaches into another limit or prefix.
        self._prefix = _escaped(prefix)
        # One key of each limit and that of each text: `meta` and `text`.
        self._pattern = re.sub(r"([\\*?\[\]])", r"\\\1", self._prefix) + ":{*}:[mt]e[tx][at]"
        self._calls = PerProcess(lambda: Calls(target))
        self._ears = PerProcess(lambda: Ears(target, self._prefix))
        self._keys_of = functools.lru_cache(maxsize=1024)(self._made_keys)

    def __repr__(self) -> str:
        return f"RedisBackend({self._where!r})"

    def acquire(self, request: AcquireRequest) -> Grant | Busy:
        """See `Backend.acquire`."""
        meta, keys = self._keys_of(request.name)
        if request.place and request.place.address:
            self._ears().expect(request, meta)
        asked_at = clock.now()
        return _answer(request, self._run((ACQUIRE, keys, len(_KEYS), _wish(request))), asked_at)

    def renew(self, grants: Sequence[Grant]) -> Sequence[Grant | None]:
        """See `Backend.renew`."""
        if not grants:
            return []
        calls = [self._call(RENEW, grant.name, grant.owner, micros(grant.ttl)) for grant in grants]
        asked_at, answers = _twice(lambda: (clock.now(), self._calls().run_all(calls)))
        return [_renewed(grant, answer, asked_at) for grant, answer in zip(grants, answers, strict=True)]

    def release(self, name: str, owner: str, keep: float = 0.0) -> bool:
        """See `Backend.release`."""
        call = self._call(RELEASE, name, owner, micros(keep))
        try:
            return bool(self._calls().run(call))
        except AnswerLost:
            self._calls().run(call)
            # Ended by this try, or by the first one, whose answer is all that was lost.
            return True

    def force_release(self, name: str, owner: str | None = None) -> int:
        """See `Backend.force_release`."""
        return int(self._run(self._call(FORCE_RELEASE, name, *([] if owner is None else [owner]))))

    def inspect(self, name: str) -> LimitState:
        """See `Backend.inspect`."""
        return _state(name, self._run(self._call(INSPECT, name)))

    def page(self, after: str = "", most: int = 200) -> Page:
        """See `Backend.page`."""
        cursor, limits, texts = self._run((PAGE, packed([0]), 0, (after or 0, most, self._pattern)))
        return Page(
            tuple(_state(self._name_in(root), row) for root, row in limits),
            tuple((self._name_in(root), text.decode()) for root, text in texts),
            "" if cursor == b"0" else cursor.decode(),
        )

    def update(self, name: str, change: Change[T]) -> T:
        """See `Backend.update`."""
        return _texts.update(self._run, self._text_key(name), change)

    def reserve(self, request: ReserveRequest) -> Slot | Refused:
        """See `Backend.reserve`."""
        # Done twice, it costs a start at the most; not done, it would cost the rate.
        answer = _rates.reserve(self._run, self._text_key(request.name), request)
        return super().reserve(request) if answer is None else answer

    def reserve_all(self, requests: Sequence[ReserveRequest]) -> Slots | Refused:
        """See `Backend.reserve_all`."""
        keys = _texts.text_keys([self._root(request.name) for request in requests])
        return _texts.update_all(self._run, keys, len(requests), reserving(requests, RETENTION))

    def take_all(
        self, request: AcquireRequest, rates: Sequence[ReserveRequest], within: float
    ) -> Taken | Busy | Refused:
        """See `Backend.take_all`."""
        keys = [f"{self._root(request.name)}:{part}" for part in _KEYS]
        lock = _together.Wanted(keys, _wish(request), functools.partial(_answer, request))
        return _together.take_all(self._run, lock, rates, [self._root(rate.name) for rate in rates], within)

    def listen(self, owner: str) -> Listener:
        """See `Backend.listen`."""
        return self._ears().listener(owner)

    @property
    def listening(self) -> bool:
        """Whether the connection to listen at stands."""
        ears = self._ears.peek()
        return ears is not None and ears.open

    def version(self) -> str:
        """See `Backend.version`."""
        told: str = self._run((ABOUT, packed([0]), 0, ())).decode()
        facts = dict(line.split(":", 1) for line in told.splitlines() if ":" in line)
        return facts.get("valkey_version") or facts.get("redis_version", "")

    def close(self) -> None:
        """See `Backend.close`."""
        for mine in (self._calls.take(), self._ears.take()):
            if mine is not None:
                mine.close()

    def _call(self, script: Script, name: str, *args: object) -> Call:
        return script, self._keys_of(name)[1], len(_KEYS), args

    def _run(self, call: Call) -> Any:
        return _twice(lambda: self._calls().run(call))

    def _name_in(self, root: bytes) -> str:
        return _unescaped(root.decode()[len(self._prefix) + 2 : -1])

    def _text_key(self, name: str) -> bytes:
        return _texts.text_keys([self._root(name)])

    def _root(self, name: str) -> str:
        return f"{self._prefix}:{{{_escaped(name)}}}"

    def _made_keys(self, name: str) -> tuple[bytes, bytes]:
        """Return the first key of a limit, and all of them as they are sent, with their number in front."""
        keys = [f"{self._root(name)}:{part}".encode() for part in _KEYS]
        return keys[0], packed([len(keys), *keys])


def _twice(step: Callable[[], T]) -> T:
    """Return what `step` returns, done again if its answer was lost: every step but a release may be done twice."""
    try:
        return step()
    except AnswerLost:
        # A server that restarted closed the connections.
        return step()


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")


def _unescaped(text: str) -> str:
    return text.replace("%7D", "}").replace("%7B", "{").replace("%25", "%")


def _state(name: str, row: list[Any]) -> LimitState:
    capacity, hold, now, holders, waiters = row
    return LimitState(
        name,
        capacity,
        tuple(_holder(each, now) for each in holders),
        tuple(_waiter(each) for each in waiters),
        float(hold) if hold else None,
    )


def _wish(request: AcquireRequest) -> list[object]:
    """Return the arguments of the script that acquires."""
    place = request.place or _NOWHERE
    ticket = request.owner if place.address else place.ticket
    args: list[object] = [request.owner, request.permits, request.capacity, micros(request.ttl), request.info]
    return [*args, ticket, micros(place.keep), place.address or "", round((request.since or 0.0) * 1e6)]


def _answer(request: AcquireRequest, answer: list[Any], asked_at: float) -> Grant | Busy:
    if answer[0] == 0:
        return _busy(answer, asked_at)
    _, permits, token, now, expires, was = answer
    deadline = asked_at + (expires - now) / 1e6
    return Grant(request.name, request.owner, permits, request.ttl, token, deadline, was or None)


def _busy(answer: list[Any], asked_at: float) -> Busy:
    _, first, ahead, capacity, hold, now, was, holders = answer
    return Busy(
        retry_after=(first - now) / 1e6 if first else None,
        ahead=ahead,
        holders=tuple(_holder(row, now) for row in holders),
        capacity=capacity,
        usual_hold=float(hold) if hold else None,
        server_time=now / 1e6,
        asked_at=asked_at,
        capacity_was=was or None,
    )


def _renewed(grant: Grant, answer: list[Any], asked_at: float) -> Grant | None:
    if not answer:
        return None
    permits, token, now, expires = answer
    return Grant(grant.name, grant.owner, permits, grant.ttl, token, asked_at + (expires - now) / 1e6)


def _holder(row: list[Any], now: int) -> Holder:
    owner, permits, token, since, ends, info = row
    return Holder(owner.decode(), permits, token, since / 1e6, (ends - now) / 1e6, info.decode())


def _waiter(row: list[Any]) -> Waiter:
    ticket, permits, since, listening, info = row
    return Waiter(ticket.decode(), permits, since / 1e6, bool(listening), info.decode())
