"""Limits and texts in the order of their keys, for those who look at all of them.

A limit has a handful of keys, or very many. So a page is cut behind the last limit that is in it as a whole; one that
fills a page alone is read by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from tasklocks.backends.etcd.ops import KeyValue, Range, Rows, Txn, prefix_end
from tasklocks.backends.etcd.store import Store
from tasklocks.backends.etcd.texts import live_text
from tasklocks.types import LimitState, Page

__all__ = ["page"]

State = Callable[[str, int, Rows], LimitState]
"""From a limit's name, a revision and all keys of the limit to what is said about it."""


def page(store: Store, state: State, after: str, most: int) -> Page:
    """See `Backend.page`."""
    everything = store.keys.everything
    start = bytes.fromhex(after) if after else everything
    reply = store.transport.txn(Txn((), (Range(start, prefix_end(everything), most + 1, by_key=True),)))
    kvs = reply.rows[0].kvs[:most]
    rest = reply.rows[0].kvs[most:]
    whole, go_on = _cut(store, kvs, rest[0].key) if rest else (kvs, b"")
    if rest and not whole:
        return _page_of_one(store, state, kvs[0].key)
    limits: list[LimitState] = []
    texts: list[tuple[str, str]] = []
    for (_, name), group in groupby(whole, lambda kv: store.keys.folder_of(kv.key)):
        rows = tuple(group)
        if name:
            limits.append(state(name, reply.revision, _in_order(rows)))
        else:
            texts += _texts(store, rows)
    return Page(tuple(limits), tuple(texts), go_on.hex())


def _in_order(kvs: tuple[KeyValue, ...]) -> Rows:
    """Return the keys of a limit in the order in which they were made, which is that of its line."""
    return Rows(tuple(sorted(kvs, key=lambda kv: kv.create)), len(kvs))


def _cut(store: Store, kvs: tuple[KeyValue, ...], following: bytes) -> tuple[tuple[KeyValue, ...], bytes]:
    """Return the keys without those of a limit that goes on behind them, and where the next page starts."""
    folder, name = store.keys.folder_of(following)
    if not name:
        return kvs, following
    return tuple(kv for kv in kvs if not kv.key.startswith(folder)), folder


def _page_of_one(store: Store, state: State, key: bytes) -> Page:
    folder, name = store.keys.folder_of(key)
    reply = store.transport.txn(Txn((), (Range(folder, prefix_end(folder)),)))
    return Page((state(name, reply.revision, reply.rows[0]),), (), prefix_end(folder).hex())


def _texts(store: Store, kvs: tuple[KeyValue, ...]) -> list[tuple[str, str]]:
    named = [(store.keys.text_named(kv.key), kv) for kv in kvs]
    return [(name, live_text((kv,))) for name, kv in named if name is not None]
