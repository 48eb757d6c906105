"""The step that renews leases: a sign of life for each ttl among them, and a look at all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from tasklocks import clock
from tasklocks.backends.etcd.ending import drop_lapsed
from tasklocks.backends.etcd.keys import Entry
from tasklocks.backends.etcd.mine import Mine
from tasklocks.backends.etcd.ops import Range, Rows, Txn
from tasklocks.backends.etcd.sessions import Session
from tasklocks.backends.etcd.store import Store
from tasklocks.backends.etcd.wish import claim
from tasklocks.types import Grant

__all__ = ["renew"]

_AT_ONCE = 100


def renew(store: Store, grants: Sequence[Grant]) -> list[Grant | None]:
    """See `Backend.renew`."""
    for name in {grant.name for grant in grants}:
        drop_lapsed(store, name)
    began = clock.now()
    sessions = {ttl: store.sessions.get(ttl, renewed=True) for ttl in {grant.ttl for grant in grants}}
    answers: list[Grant | None] = []
    for start in range(0, len(grants), _AT_ONCE):
        part = grants[start : start + _AT_ONCE]
        keys = [store.keys.limit(grant.name).entry(grant.owner) for grant in part]
        reply = store.transport.txn(Txn((), tuple(Range(key) for key in keys)))
        for grant, rows in zip(part, reply.rows, strict=True):
            answers.append(_renewed(store, grant, rows, sessions[grant.ttl], began))
    return answers


def _renewed(store: Store, grant: Grant, rows: Rows, session: Session, began: float) -> Grant | None:
    entry = Entry.read(rows.kvs[0]) if rows.kvs else None
    if entry is None or entry.token != grant.fencing_token:
        store.table.drop(grant.name, grant.owner)
        return None
    if entry.closed:
        return None
    ends = min(began + grant.ttl, session.alive_until)
    known = store.table.find(grant.name, grant.owner)
    taken_at = known.taken_at if known is not None else None
    if taken_at is None:
        taken_at = began - max(0.0, time.time() - entry.since) if entry.since else began
    permits, token = entry.permits, entry.token
    mine = Mine(
        grant.name, grant.owner, entry.create, entry.mod, permits, grant.ttl, token, session.id, ends, taken_at
    )  # fmt: skip
    if entry.lease != session.id or not entry.since:
        # It was handed to us, or taken in another process: from now on it ends with what this process keeps alive.
        taken = replace(entry, since=entry.since or time.time() - (clock.now() - taken_at), ttl=grant.ttl)
        done = claim(store, mine, taken, session)
        if done is None:
            return None
        mine.mod = done
    store.table.add(mine)
    return mine.grant()
