"""What people see of a backend: limits in use, who holds and who waits, and when a waiter's turn probably comes.

All of it is read, nothing is written, and nobody who takes leases does anything for it. Who it is comes from what the
owners said about themselves: task, id, host and process, never a task's arguments.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from tasklocks import who
from tasklocks.backends.base import Backend
from tasklocks.consumption import rate_view
from tasklocks.types import Holder, LimitState, Page, Waiter
from tasklocks.views import HolderView, Kind, LimitView, RateView, Row, WaiterView, Who

__all__ = ["backend_clock", "find", "look", "look_at_rate", "pages", "rows", "view"]

_CLOCK = "tasklocks-clock"  # a text that is never written


def backend_clock(backend: Backend) -> float:
    """Return the backend's clock, in seconds since the epoch; raises `BackendUnavailable`."""
    return backend.update(_CLOCK, lambda text, now: (text, 0.0, now))


def rows(backend: Backend, *, idle: bool = False) -> Iterator[Row]:
    """Yield a row for each limit in use, page by page, in no order.

    Args:
        backend: which one.
        idle: also those that nobody holds or waits for, but that are not forgotten yet.
    """
    # A store whose keys move while they are listed may show one twice.
    seen: set[tuple[str, bool]] = set()
    for row in _rows(backend, backend_clock(backend)):
        known = (row.name, row.kind == "rate")
        if known not in seen and (idle or row.holders or row.waiters or row.kind == "rate"):
            seen.add(known)
            yield row


def look(backend: Backend, name: str) -> LimitView | None:
    """Return all that is known of a lock or semaphore; None if there is none of that name, or nobody remembers."""
    now = backend_clock(backend)
    state = backend.inspect(name)
    return view(state, now) if state.capacity or state.holders or state.waiters else None


def look_at_rate(backend: Backend, name: str) -> RateView | None:
    """Return what is known of a rate limit; None if there is none of that name, or nobody remembers."""
    text, now = backend.update(name, lambda text, now: (text, 0.0, (text, now)))
    return rate_view(name, text, now)


def find(backend: Backend, task_id: str) -> Iterator[tuple[LimitView, HolderView | WaiterView]]:
    """Yield where a task holds or waits; `task_id` is its id, or the beginning of it."""
    now = backend_clock(backend)
    for page in pages(backend):
        for state in page.limits:
            infos = [*(each.info for each in state.holders), *(each.info for each in state.waiters)]
            if any(_said(info).id.startswith(task_id) for info in infos):
                shown = view(state, now)
                everyone: tuple[HolderView | WaiterView, ...] = (*shown.holders, *shown.waiters)
                yield from ((shown, each) for each in everyone if each.who.id.startswith(task_id))


def view(state: LimitState, now: float) -> LimitView:
    """Return a limit as people see it at `now`, a time of the backend's clock."""
    expected = _expected(state, now)
    return LimitView(
        name=state.name,
        kind=_kind(state),
        capacity=state.capacity,
        held=sum(holder.permits for holder in state.holders),
        usual_hold=state.usual_hold,
        holders=tuple(_holder_view(holder, now) for holder in state.holders),
        waiters=tuple(
            _waiter_view(place, waiter, now, turn)
            for place, (waiter, turn) in enumerate(zip(state.waiters, expected, strict=True), 1)
        ),
    )


def pages(backend: Backend) -> Iterator[Page]:
    """Yield all that a backend keeps, page by page; what comes or goes meanwhile may be missing, or there twice."""
    page = backend.page()
    yield page
    while page.after:
        page = backend.page(page.after)
        yield page


def _rows(backend: Backend, now: float) -> Iterator[Row]:
    for page in pages(backend):
        yield from (_row(state, now) for state in page.limits)
        rates = (rate_view(name, text, now) for name, text in page.texts)
        yield from (Row(rate.name, rate.kind, paused_for=rate.paused_for) for rate in rates if rate is not None)


def _row(state: LimitState, now: float) -> Row:
    return Row(
        name=state.name,
        kind=_kind(state),
        capacity=state.capacity,
        held=sum(holder.permits for holder in state.holders),
        holders=len(state.holders),
        waiters=len(state.waiters),
        # Not below 0 for a lease that is younger than the look at the clock.
        longest_hold=max([0.0, *(now - holder.since for holder in state.holders)]),
        usual_hold=state.usual_hold,
    )


def _kind(state: LimitState) -> Kind:
    return "mutex" if state.capacity == 1 else "semaphore"


def _holder_view(holder: Holder, now: float) -> HolderView:
    held_for = max(0.0, now - holder.since)
    said = _said(holder.info)
    return HolderView(
        said, holder.owner, holder.permits, holder.since, held_for, holder.expires_in, holder.fencing_token
    )


def _waiter_view(place: int, waiter: Waiter, now: float, turn: float | None) -> WaiterView:
    waited_for = max(0.0, now - waiter.since)
    said = _said(waiter.info)
    return WaiterView(place, said, waiter.ticket, waiter.permits, waiter.since, waited_for, waiter.listening, turn)


def _said(info: str) -> Who:
    facts = who.read(info)
    return Who(facts.get("task", ""), facts.get("id", ""), facts.get("host", ""), facts.get("pid", ""))


def _expected(state: LimitState, now: float) -> list[float | None]:
    """Return in how many seconds each waiter's turn comes, if every permit is held for as long as usual."""
    usual = state.usual_hold
    if usual is None:
        return [None] * len(state.waiters)
    # When permits come free, and how many at a time: there may be millions of them.
    coming = [(max(0.0, usual - (now - holder.since)), holder.permits) for holder in state.holders]
    coming.append((0.0, state.capacity - sum(holder.permits for holder in state.holders)))
    heapify(coming)
    turns: list[float | None] = []
    for waiter in state.waiters:
        turn = _turn(coming, waiter.permits)
        if turn is not None:
            heappush(coming, (turn + usual, waiter.permits))
        turns.append(turn)
    return turns


def _turn(coming: list[tuple[float, int]], permits: int) -> float | None:
    """Take so many permits of those that come free first; return when the last of them does."""
    turn, missing = None, permits
    while missing > 0 and coming:
        turn, count = heappop(coming)
        missing -= max(0, count)
        if missing < 0:
            heappush(coming, (turn, -missing))
    return turn if missing <= 0 else None
