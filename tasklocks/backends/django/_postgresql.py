"""Limits in a PostgreSQL database: a step is a few statements that travel together, see `_steps`.

Time is the server's (`clock_timestamp()`); a release tells the next in line by `NOTIFY`.
"""

from __future__ import annotations

import itertools
import json
import random
import weakref
from collections.abc import Sequence
from typing import Any, TypeVar

from tasklocks import clock
from tasklocks.backends.base import RETENTION, Change, Changes, ReservesByUpdate
from tasklocks.backends.django import CAPABILITIES, _steps
from tasklocks.backends.django._database import Target
from tasklocks.backends.django._ears import Ears, Listener
from tasklocks.backends.django._links import Links
from tasklocks.backends.django._statements import Statement
from tasklocks.backends.django._together import take_all
from tasklocks.backends.several import Slots, reserving
from tasklocks.errors import AnswerLost
from tasklocks.fork import PerProcess
from tasklocks.types import (
    AcquireRequest,
    Busy,
    Grant,
    Holder,
    LimitState,
    Page,
    Refused,
    ReserveRequest,
    Taken,
    Waiter,
)

__all__ = ["PostgresLimits"]

_PRUNE_EVERY = 1000
_RENEWED_AT_ONCE = 200  # PostgreSQL has room for some thousand locks

T = TypeVar("T")


class PostgresLimits(ReservesByUpdate):
    """The limits of all processes that use the same database under the same prefix."""

    capabilities = CAPABILITIES["postgresql"]

    def __init__(self, target: Target, prefix: str) -> None:
        self._target = target
        self._prefix = prefix
        self._links = PerProcess(lambda: Links(target))
        self._ears = PerProcess(lambda: Ears(self._links().connect))
        # Not from 0: processes that live for a few steps only must prune now and then, too.
        self._count = itertools.count(random.randrange(_PRUNE_EVERY))  # noqa: S311 - nothing secret
        weakref.finalize(self, _close, self._links, self._ears)

    def __repr__(self) -> str:
        return f"PostgresLimits({self._target.alias!r})"

    def acquire(self, request: AcquireRequest) -> Grant | Busy:
        """See `Backend.acquire`."""
        if request.place is not None and request.place.address:
            self._ears().expect(request, self._key(request.name))
        step = _steps.acquire(_steps.full_key_of(self._prefix, request.name), request)
        asked_at = clock.now()
        was, answer = map(json.loads, self._run(step))
        return _answer(request, was[0], answer, asked_at)

    def renew(self, grants: Sequence[Grant]) -> Sequence[Grant | None]:
        """See `Backend.renew`."""
        parts = (grants[start : start + _RENEWED_AT_ONCE] for start in range(0, len(grants), _RENEWED_AT_ONCE))
        return [grant for part in parts for grant in self._renewed(part)]

    def release(self, name: str, owner: str, keep: float = 0.0) -> bool:
        """See `Backend.release`."""
        step = _steps.release(self._key(name), owner, keep)
        try:
            return self._links().run(step)[0] == "1"
        except AnswerLost:
            self._links().run(step)
            # Ended by this try, or by the first one, whose answer is all that was lost.
            return True

    def force_release(self, name: str, owner: str | None = None) -> int:
        """See `Backend.force_release`."""
        return int(self._run(_steps.force_release(self._key(name), owner))[0])

    def inspect(self, name: str) -> LimitState:
        """See `Backend.inspect`."""
        _, _, found = json.loads(self._run(_steps.inspect(self._key(name)))[0])
        return _state(name, *found[0][1:]) if found else LimitState(name, 0, (), (), None)

    def page(self, after: str = "", most: int = 200) -> Page:
        """See `Backend.page`."""
        table, _, last = (after or "limits 0").partition(" ")
        end, seen, found = json.loads(self._run(_steps.page(table, self._prefix, int(last), most))[0])
        following = {"limits": "texts 0", "texts": ""}[table]
        behind = len(_steps.full_key_of(self._prefix, ""))
        rows = [(full[behind:], *row) for full, *row in found or ()]
        return Page(
            tuple(_state(*row) for row in rows) if table == "limits" else (),
            tuple(rows) if table == "texts" else (),
            f"{table} {end}" if seen == most else following,
        )

    def update(self, name: str, change: Change[T]) -> T:
        """See `Backend.update`."""

        def change_it(texts: Sequence[str], now: float) -> tuple[Sequence[str], float, T]:
            text, keep, answer = change(texts[0], now)
            return [text], keep, answer

        return self._changed([name], change_it)

    def reserve_all(self, requests: Sequence[ReserveRequest]) -> Slots | Refused:
        """See `Backend.reserve_all`."""
        return self._changed([request.name for request in requests], reserving(requests, RETENTION))

    def take_all(
        self, request: AcquireRequest, rates: Sequence[ReserveRequest], within: float
    ) -> Taken | Busy | Refused:
        """See `Backend.take_all`."""

        def step() -> Taken | Busy | Refused:
            with self._links().session() as session:
                return take_all(session, self._prefix, request, rates, within=within, read=_answer)

        try:
            return step()
        except AnswerLost:
            # Done twice, it costs a start; not done again, the permits would stay taken for nobody.
            return step()

    def listen(self, owner: str) -> Listener:
        """See `Backend.listen`."""
        return self._ears().listener()

    @property
    def listening(self) -> bool:
        """Whether the connection to listen at stands."""
        ears = self._ears.peek()
        return ears is not None and ears.open

    def version(self) -> str:
        """See `Backend.version`."""
        return self._run(_steps.version())[0]

    def close(self) -> None:
        """See `Backend.close`."""
        _close(self._links, self._ears)

    def _key(self, name: str) -> str:
        return _steps.key_of(_steps.full_key_of(self._prefix, name))

    def _renewed(self, grants: Sequence[Grant]) -> list[Grant | None]:
        step = _steps.renew([self._key(grant.name) for grant in grants], grants)
        asked_at = clock.now()
        answers = self._run(step)
        found = {number: lease for number, *lease in json.loads(answers[0])} if answers else {}
        return [_renewed(grant, found.get(number), asked_at) for number, grant in enumerate(grants)]

    def _changed(self, names: Sequence[str], change: Changes[T]) -> T:
        """Replace texts by what `change` makes of them, all at once; they are locked meanwhile."""
        full = [_steps.full_key_of(self._prefix, name) for name in names]
        keys = [_steps.key_of(each) for each in full]
        with self._links().session() as session:
            (known,) = session.ask(_steps.read_texts(keys), commit=False)
            now, found = json.loads(known)
            old = [(found or {}).get(key, "") for key in keys]
            new, keep, answer = change(old, now)
            changed = [(name, text) for name, text, was in zip(full, new, old, strict=True) if text != was]
            session.ask([_steps.write_text(name, text, keep) for name, text in changed], begin=False)
            return answer

    def _run(self, statements: Sequence[Statement]) -> list[str]:
        if next(self._count) % _PRUNE_EVERY == 0:
            self._prune()
        try:
            return self._links().run(statements)
        except AnswerLost:
            # A server that restarted closed the connections. Every step but a release may be done twice.
            return self._links().run(statements)

    def _prune(self) -> None:
        """Forget what is old, a bounded number at once."""
        with self._links().session() as session:
            idle = session.ask(_steps.idle(), commit=False)
            session.ask(_steps.forget(json.loads(idle[0])) if idle else [], begin=False)


def _close(links: PerProcess[Links], ears: PerProcess[Ears]) -> None:
    for mine in (ears.take(), links.take()):
        if mine is not None:
            mine.close()


def _answer(request: AcquireRequest, was: int | None, answer: list[Any], asked_at: float) -> Grant | Busy:
    now, lease, *busy = answer
    changed = was if was not in (None, request.capacity) else None
    if lease is None:
        return _busy(now, busy, changed, asked_at)
    permits, token = lease
    # It has just been given its full time, by a clock that was read later than ours.
    return Grant(request.name, request.owner, permits, request.ttl, token, asked_at + request.ttl, changed)


def _busy(now: float, busy: list[Any], changed: int | None, asked_at: float) -> Busy:
    capacity, hold, first, ahead, holders = busy
    return Busy(
        retry_after=None if first is None else first - now,
        ahead=ahead,
        holders=tuple(Holder(*row) for row in holders or ()),
        capacity=capacity,
        usual_hold=hold,
        server_time=now,
        asked_at=asked_at,
        capacity_was=changed,
    )


def _renewed(grant: Grant, lease: list[int] | None, asked_at: float) -> Grant | None:
    if lease is None:
        return None
    permits, token = lease
    return Grant(grant.name, grant.owner, permits, grant.ttl, token, asked_at + grant.ttl)


def _state(name: str, capacity: int, hold: float | None, holders: Any, waiters: Any) -> LimitState:
    holding = tuple(Holder(*row) for row in holders or ())
    return LimitState(name, capacity, holding, tuple(_waiter(*row) for row in waiters or ()), hold)


def _waiter(ticket: str, permits: int, since: float, away: int, info: str) -> Waiter:
    return Waiter(ticket, permits, since, not away, info)
