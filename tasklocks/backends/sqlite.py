"""`sqlite:///path`: limits that the processes of one host share through a file, with no server.

Does not guarantee: anything between hosts, even if they share a directory (SQLite's log cannot be shared over a
network). A process that is stopped inside a transaction makes the others raise `BackendUnavailable` after `timeout`
until it goes on or ends. Whoever deletes the file ends all leases in it; tokens go on growing, for they are not
smaller than the host's time. Far from the head of a line, `Busy.ahead` may be a little too large.

Every step is one transaction with the database's write lock, so a process that is killed inside one leaves nothing.
Leases end by the host's boot clock: setting the wall clock changes nothing, and after a restart none is left.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import random
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from sqlite3 import Cursor, sqlite_version
from typing import TypeVar
from urllib.parse import parse_qsl, unquote

from tasklocks.backends import _sqlite_steps as steps
from tasklocks.backends import _sqlite_texts as texts
from tasklocks.backends._sqlite_ears import PUSH, Ears, Listener, Sleeper
from tasklocks.backends._sqlite_limit import Knock, inspect, inspect_behind, look, prune
from tasklocks.backends._sqlite_store import Store
from tasklocks.backends.base import Change, ReservesByUpdate
from tasklocks.backends.paging import page
from tasklocks.backends.several import Slots, taken
from tasklocks.errors import BackendUnavailable, ConfigurationError
from tasklocks.fork import PerProcess
from tasklocks.types import AcquireRequest, Busy, Capabilities, Grant, LimitState, Page, Refused, ReserveRequest, Taken

__all__ = ["SQLiteBackend", "SQLiteLimits"]

T = TypeVar("T")

_TIMEOUT = 5.0
_PRUNE_EVERY = 1000


class SQLiteLimits(ReservesByUpdate):
    """Limits in an SQLite database.

    Args:
        path: the file.
        make_store: makes what one process uses it through.
        prefix: two applications with two prefixes in one file never meet.
    """

    capabilities = Capabilities(push=PUSH, server_clock=False, strict_order=True, multi_host=False, together=True)

    def __init__(self, path: str, make_store: Callable[[], Store], prefix: str) -> None:
        self._path = path
        # The first colon that is not escaped ends the prefix, so no name can reach into another prefix.
        self._prefix = prefix.replace("%", "%25").replace(":", "%3A") + ":"
        self._store = PerProcess(make_store)
        self._ears = PerProcess(Ears)
        # Not from 0: processes that live for a few steps only must prune now and then, too.
        self._steps = itertools.count(random.randrange(_PRUNE_EVERY))  # noqa: S311 - nothing secret
        self._pruned_to = ""
        # Also when it is dropped without `close`, and at the end of the process: then SQLite tidies its log away.
        weakref.finalize(self, _close, self._store, self._ears)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._path!r})"

    def acquire(self, request: AcquireRequest) -> Grant | Busy:
        """See `Backend.acquire`."""
        if request.place is not None and PUSH:
            self._ears().expect(request)
        answer = self._step(lambda db, now: self._acquired(db, now, request))
        assert answer is not None  # noqa: S101 - it is told to grant
        return answer

    def renew(self, grants: Sequence[Grant]) -> Sequence[Grant | None]:
        """See `Backend.renew`."""
        keys = [self._prefix + grant.name for grant in grants]
        return self._step(lambda db, now: steps.renew_all(db, keys, grants, now))

    def release(self, name: str, owner: str, keep: float = 0.0) -> bool:
        """See `Backend.release`."""
        key = self._prefix + name
        return self._step(lambda db, now: steps.release(look(db, key, owner, now), keep))

    def force_release(self, name: str, owner: str | None = None) -> int:
        """See `Backend.force_release`."""
        key = self._prefix + name
        return self._step(lambda db, now: steps.force_release(look(db, key, "", now), owner))

    def inspect(self, name: str) -> LimitState:
        """See `Backend.inspect`."""
        return self._store().read(lambda db, now: inspect(db, self._prefix + name, name, now))

    def page(self, after: str = "", most: int = 200) -> Page:
        """See `Backend.page`."""

        def read(db: Cursor, now: float) -> Page:
            return page(
                after,
                most,
                lambda name, some: inspect_behind(db, self._prefix, name, some, now),
                lambda name, some: texts.behind(db, self._prefix, name, some),
            )

        return self._store().read(read)

    def update(self, name: str, change: Change[T]) -> T:
        """See `Backend.update`."""
        key = self._prefix + name
        return self._step(lambda db, now: (texts.update(db, key, change), []))

    def reserve_all(self, requests: Sequence[ReserveRequest]) -> Slots | Refused:
        """See `Backend.reserve_all`."""
        return self._step(lambda db, now: (texts.reserve_all(db, self._prefix, requests), []))

    def take_all(
        self, request: AcquireRequest, rates: Sequence[ReserveRequest], within: float
    ) -> Taken | Busy | Refused:
        """See `Backend.take_all`."""

        def work(db: Cursor, now: float) -> tuple[Taken | Busy | Refused, list[Knock]]:
            knocks: list[Knock] = []

            def acquire(begins: Callable[[], bool]) -> Grant | Busy | None:
                answer, told = self._acquired(db, now, request, begins)
                knocks.extend(told)
                return answer

            return taken(acquire, lambda: texts.reserve_all(db, self._prefix, rates), within), knocks

        return self._step(work)

    def listen(self, owner: str) -> Listener | Sleeper:
        """See `Backend.listen`."""
        return self._ears().listener(owner, self._granted_to) if PUSH else Sleeper()

    @property
    def listening(self) -> bool:
        """Whether a socket is at hand."""
        return PUSH and bool(self._ears().spare)

    def version(self) -> str:
        """See `Backend.version`."""
        return sqlite_version

    def close(self) -> None:
        """See `Backend.close`."""
        _close(self._store, self._ears)

    def _acquired(
        self, db: Cursor, now: float, request: AcquireRequest, begins: Callable[[], bool] = lambda: True
    ) -> tuple[Grant | Busy | None, list[Knock]]:
        return steps.acquire(look(db, self._prefix + request.name, request.owner, now), request, begins)

    def _granted_to(self, request: AcquireRequest) -> Grant | None:
        key = self._prefix + request.name
        limit = self._store().read(lambda db, now: look(db, key, request.owner, now))
        return steps.granted(limit, request) if limit.is_mine else None

    def _step(self, work: Callable[[Cursor, float], tuple[T, list[Knock]]]) -> T:
        if next(self._steps) % _PRUNE_EVERY == 0:
            work = self._pruning(work)
        answer, knocks = self._store().write(work)
        if knocks and PUSH:
            self._tell(knocks)
        return answer

    def _tell(self, knocks: Sequence[Knock]) -> None:
        """Wake those who were granted; what was granted to dead ones goes to the next in line at once."""
        # If that cannot be done, it lapses soon; the step before has succeeded all the same.
        with contextlib.suppress(BackendUnavailable):
            while unheard := self._ears().knock(knocks):
                knocks = self._store().write(partial(steps.take_back, unheard))

    def _pruning(self, work: Callable[[Cursor, float], T]) -> Callable[[Cursor, float], T]:
        def both(db: Cursor, now: float) -> T:
            self._pruned_to = prune(db, self._pruned_to, now)
            texts.forget_old(db)
            return work(db, now)

        return both


class SQLiteBackend(SQLiteLimits):
    """Limits in an SQLite database of their own.

    Args:
        url: `sqlite:///relative.db`, `sqlite:///~/at-home.db` or `sqlite:////absolute/path.db`; a relative path is
            taken from the directory in which the backend is made.
        prefix: two applications with two prefixes in one file never meet.
        options: `timeout`, also as `?timeout=5` in the URL: seconds that a step waits for other processes.

    Raises:
        ConfigurationError: no path, or an unknown option.
    """

    def __init__(self, url: str, *, prefix: str = "tasklocks", **options: object) -> None:
        path, timeout = _read_url(url, options)
        super().__init__(path, lambda: Store(path, timeout), prefix)


def _close(store: PerProcess[Store], ears: PerProcess[Ears]) -> None:
    if (opened := store.peek()) is not None:
        opened.close()
    if (listening := ears.take()) is not None:
        listening.close()


def _read_url(url: str, options: Mapping[str, object]) -> tuple[str, float]:
    """Return the absolute path and the timeout."""
    place, _, query = url.partition("://")[2].partition("?")
    if place in ("", "/", "/:memory:", ":memory:"):
        raise ConfigurationError(
            f"{url!r} names no file: write sqlite:///relative.db or sqlite:////absolute/path.db; "
            "for limits of one process, without a file, use memory://"
        )
    if not place.startswith("/"):
        raise ConfigurationError(f"{url!r} needs three slashes before a relative path, four before an absolute one")
    given = {**dict(parse_qsl(query, keep_blank_values=True)), **options}
    timeout = _timeout(given.pop("timeout", _TIMEOUT))
    if given:
        raise ConfigurationError(f"sqlite:// knows the option timeout, not {', '.join(sorted(given))}")
    return os.path.abspath(os.path.expanduser(unquote(place[1:]))), timeout


def _timeout(value: object) -> float:
    try:
        timeout = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        timeout = -1.0
    if not 0 <= timeout < math.inf:
        raise ConfigurationError(f"sqlite://: timeout must be a number of seconds, not {value!r}")
    return timeout
