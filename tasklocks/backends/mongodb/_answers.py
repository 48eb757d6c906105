"""From documents to the values that travel between backends and callers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasklocks.backends.mongodb._expressions import key_of
from tasklocks.types import AcquireRequest, Busy, Grant, Holder, LimitState, Waiter

__all__ = ["answer_to", "knocks_of", "lease_in", "renewed", "seconds", "state_of"]

Document = Mapping[str, Any]


def seconds(moment: Any) -> float:
    """Return a moment as seconds since the epoch."""
    return int(moment) / 1000


def answer_to(request: AcquireRequest, found: Document, asked_at: float) -> Grant | Busy:
    """Return what the document says to an acquire that was sent at local time `asked_at`."""
    before = found.get("capacity_was")
    changed = before if before != request.capacity else None
    if (busy := found.get("busy")) is not None:
        return _busy(request, busy, asked_at, changed)
    lease = found["lease"]
    return Grant(
        request.name,
        request.owner,
        int(lease["permits"]),
        request.ttl,
        int(lease["token"]),
        asked_at + request.ttl,
        changed,
    )


def lease_in(found: Document | None, owner: str) -> Document | None:
    """Return the owner's row in a document of which the leases were asked for."""
    lease: Document | None = (found or {}).get("leases", {}).get(key_of(owner))
    return lease


def renewed(grant: Grant, lease: Document | None, asked_at: float) -> Grant | None:
    """Return the lease after its renewal; None if it was not there."""
    if lease is None or lease.get("closed"):
        return None
    return Grant(grant.name, grant.owner, int(lease["permits"]), grant.ttl, int(lease["token"]), asked_at + grant.ttl)


def knocks_of(name: str, found: Document | None) -> list[dict[str, Any]]:
    """Return the word to leave for those whom a step granted a lease of the limit `name`."""
    told = [row["v"] for row in (found or {}).get("told", ())]
    return [
        {
            "to": lease["address"],
            "limit": name,
            "owner": lease["owner"],
            "token": int(lease["token"]),
            "since": int(lease["since"]),
            "expires": int(lease["expires"]),
        }
        for lease in told
    ]


def state_of(name: str, found: Document | None) -> LimitState:
    """Return all that the document says; None if there is none."""
    if found is None:
        return LimitState(name, 0, (), (), None)
    now = found["now"]
    return LimitState(
        name,
        found.get("capacity", 0),
        tuple(_holder(lease, now) for lease in _live(found, "leases", "expires")),
        tuple(
            _waiter(seat, line != "away") for line in ("line", "rest", "away") for seat in _live(found, line, "until")
        ),
        _usual_hold(found),
    )


def _busy(request: AcquireRequest, busy: Document, asked_at: float, changed: int | None) -> Busy:
    now, first_ends = busy["now"], busy.get("first_ends")
    return Busy(
        retry_after=None if first_ends is None else _between(now, first_ends),
        ahead=busy["ahead"],
        holders=tuple(_holder(lease, now) for lease in busy["holders"]),
        capacity=request.capacity,
        usual_hold=_usual_hold(busy),
        server_time=seconds(now),
        asked_at=asked_at,
        capacity_was=changed,
    )


def _live(found: Document, field: str, end: str) -> list[Document]:
    now = int(found["now"])
    return [row for row in found.get(field, {}).values() if int(row[end]) > now]


def _holder(lease: Document, now: Any) -> Holder:
    return Holder(
        lease["owner"],
        int(lease["permits"]),
        int(lease["token"]),
        seconds(lease["since"]),
        _between(now, lease["expires"]),
        lease["info"],
    )


def _waiter(seat: Document, listening: bool) -> Waiter:
    return Waiter(seat["ticket"], seat["permits"], seconds(seat["since"]), listening, seat["info"])


def _usual_hold(found: Document) -> float | None:
    usual = found.get("usual_hold")
    return None if usual is None else float(usual)


def _between(now: Any, end: Any) -> float:
    # Without the millisecond that `after` adds: nobody is to be told of more than the ttl.
    return max(0, int(end) - int(now) - 1) / 1000
