"""`EtcdBackend`: the steps of etcd behind the protocol of every backend."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from tasklocks import clock
from tasklocks.backends.base import RETENTION, Change, ReservesByUpdate
from tasklocks.backends.etcd.acquiring import acquire
from tasklocks.backends.etcd.address import Address, read_address
from tasklocks.backends.etcd.ears import Listener
from tasklocks.backends.etcd.ending import drop_lapsed, force_release, release
from tasklocks.backends.etcd.gateway import Gateway
from tasklocks.backends.etcd.keys import Keys
from tasklocks.backends.etcd.line import Line
from tasklocks.backends.etcd.listing import page
from tasklocks.backends.etcd.ops import LeaseGoneError, Range, Rows, Transport, Txn, prefix_end
from tasklocks.backends.etcd.renewing import renew
from tasklocks.backends.etcd.sessions import MIN_TTL
from tasklocks.backends.etcd.showing import holder
from tasklocks.backends.etcd.store import Store, sorted_out
from tasklocks.backends.etcd.together import take_all
from tasklocks.backends.several import Slots, reserving
from tasklocks.errors import BackendUnavailable
from tasklocks.fork import PerProcess
from tasklocks.types import (
    AcquireRequest,
    Busy,
    Capabilities,
    Grant,
    LimitState,
    Page,
    Refused,
    ReserveRequest,
    Taken,
    Waiter,
)

__all__ = ["EtcdBackend"]

T = TypeVar("T")


class EtcdBackend(ReservesByUpdate):
    """Limits in etcd 3.4 or later.

    Args:
        url: `etcd://[user:password@]host:2379[,host2:2379][/namespace][?option=value]`.
        prefix: two applications with two prefixes never meet.
        options: `timeout` (seconds that a step may take), `tls`, `ca`, `cert`, `key` (paths of PEM files), `user`,
            `password`; also in the URL.

    Raises:
        ConfigurationError: no host, or an unknown option.
    """

    capabilities = Capabilities(
        push=True, server_clock=True, strict_order=True, multi_host=True, min_ttl=MIN_TTL, by_since=False, together=True
    )

    _connect: Callable[[Address], Transport] = Gateway

    def __init__(self, url: str, *, prefix: str = "tasklocks", **options: object) -> None:
        address = read_address(url, options)
        self._shown = address.shown
        keys = Keys(address.namespace, prefix)
        connect = self._connect
        self._store = PerProcess(lambda: _opened(lambda: connect(address), keys))
        # Also when it is dropped without `close`, and at the end of the process.
        weakref.finalize(self, _close, self._store)

    def __repr__(self) -> str:
        return f"EtcdBackend({self._shown!r})"

    def acquire(self, request: AcquireRequest) -> Grant | Busy:
        """See `Backend.acquire`."""
        return self._step(lambda store: acquire(store, request))

    def renew(self, grants: Sequence[Grant]) -> Sequence[Grant | None]:
        """See `Backend.renew`."""
        return self._step(lambda store: renew(store, grants))

    def release(self, name: str, owner: str, keep: float = 0.0) -> bool:
        """See `Backend.release`."""
        return self._step(lambda store: release(store, name, owner, keep))

    def force_release(self, name: str, owner: str | None = None) -> int:
        """See `Backend.force_release`."""
        return self._step(lambda store: force_release(store, name, owner))

    def inspect(self, name: str) -> LimitState:
        """See `Backend.inspect`."""
        return self._step(lambda store: _inspect(store, name))

    def page(self, after: str = "", most: int = 200) -> Page:
        """See `Backend.page`."""
        return self._step(lambda store: page(store, partial(_state, store), after, most))

    def update(self, name: str, change: Change[T]) -> T:
        """See `Backend.update`."""
        return self._step(lambda store: store.texts.update(store.keys.text(name), change))

    def reserve_all(self, requests: Sequence[ReserveRequest]) -> Slots | Refused:
        """See `Backend.reserve_all`."""

        def reserve(store: Store) -> Slots | Refused:
            keys = [store.keys.text(request.name) for request in requests]
            return store.texts.update_all(keys, reserving(requests, RETENTION))

        return self._step(reserve)

    def take_all(
        self, request: AcquireRequest, rates: Sequence[ReserveRequest], within: float
    ) -> Taken | Busy | Refused:
        """See `Backend.take_all`."""
        answer = self._step(lambda store: take_all(store, request, rates, within))
        return super().take_all(request, rates, within) if answer is None else answer

    def listen(self, owner: str) -> Listener:
        """See `Backend.listen`."""
        return self._store().ears.listener(owner)

    @property
    def listening(self) -> bool:
        """Whether this process's watch is open."""
        return self._store().ears.open

    def version(self) -> str:
        """See `Backend.version`."""
        return self._step(lambda store: store.transport.version())

    def close(self) -> None:
        """See `Backend.close`."""
        _close(self._store)

    def _step(self, work: Callable[[Store], T]) -> T:
        store = self._store()
        store.forget_if_reconnected()
        try:
            return work(store)
        except LeaseGoneError:
            # While this process did not run, an etcd lease of it ended.
            store.sessions.doubt()
        try:
            return work(store)
        except LeaseGoneError as error:
            raise BackendUnavailable(f"etcd at {self._shown} ends leases faster than they can be used") from error


def _opened(connect: Callable[[], Transport], keys: Keys) -> Store:
    store = Store(connect, keys)
    store.each_beat = lambda: drop_lapsed(store)
    return store


def _close(stores: PerProcess[Store]) -> None:
    if (store := stores.take()) is not None:
        store.close()


def _inspect(store: Store, name: str) -> LimitState:
    keys = store.keys.limit(name)
    reply = store.transport.txn(Txn((), (Range(keys.all, prefix_end(keys.all)),)))
    return _state(store, name, reply.revision, reply.rows[0])


def _state(store: Store, name: str, revision: int, rows: Rows) -> LimitState:
    line = _without_lapsed(store, name, sorted_out(store.keys.limit(name), "", revision, rows))
    holders = [holder(store, name, entry, line, clock.now()) for entry in line.holders]
    listening = [
        Waiter(entry.owner, entry.permits, entry.joined, True, entry.info) for entry in line.entries[line.served :]
    ]
    away = [Waiter(each.ticket, each.permits, each.since, False, each.info) for each in line.away_now()]
    return LimitState(name, line.capacity.permits, tuple(holders), (*listening, *away), line.usual.hold)


def _without_lapsed(store: Store, name: str, line: Line) -> Line:
    over = {mine.owner for mine in store.table.lapsed(clock.now(), name)}
    live = tuple(entry for entry in line.entries if entry.owner not in over)
    return replace(line, entries=live, total=len(live))
