"""One plain sentence about a task: what it waits for, who holds it, and when its turn probably comes."""

from __future__ import annotations

from tasklocks.cli.output import ago
from tasklocks.names import escaped
from tasklocks.views import HolderView, LimitView, WaiterView

__all__ = ["is_overdue", "why_text"]


def why_text(limit: LimitView, place: HolderView | WaiterView) -> str:
    """Say why a task waits, or that it does not."""
    return escaped(_holds(limit, place) if isinstance(place, HolderView) else _waits(limit, place))


def _holds(limit: LimitView, place: HolderView) -> str:
    return (
        f"{place.who} does not wait: it has held {_permits(place.permits)} of {limit.name!r} "
        f"for {ago(place.held_for)}; unless it is renewed, its lease ends in {ago(place.lease_left)}."
    )


def _waits(limit: LimitView, place: WaiterView) -> str:
    return (
        f"{place.who} has waited for {_permits(place.permits)} of {limit.name!r} for {ago(place.waited_for)}, "
        f"{_held(limit)}; {_in_line(place)}, {_expected(limit, place)}."
    )


def _held(limit: LimitView) -> str:
    if not limit.holders:
        return "which nobody holds now"
    first, others = limit.holders[0], len(limit.holders) - 1
    more = f" and {others} more" if others else ""
    return f"{limit.held} of {limit.capacity} held by {first.who} (for {ago(first.held_for)}){more}"


def _in_line(place: WaiterView) -> str:
    if place.place == 1:
        return "it is next in line"
    return f"{place.place - 1} {'waits' if place.place == 2 else 'wait'} in front of it"


def _expected(limit: LimitView, place: WaiterView) -> str:
    if place.expected_in is None:
        return "and nobody knows yet for how long a permit is usually held"
    usual = f"a permit is usually held for {ago(limit.usual_hold)}"
    if is_overdue(limit):
        return f"and nobody can tell when it starts: {usual}, and each has been held for longer than that"
    soon = "any moment" if place.expected_in < 1 else f"in about {ago(place.expected_in)}"
    return f"and it probably starts {soon}, for {usual}"


def is_overdue(limit: LimitView) -> bool:
    """Tell whether every permit is held for longer than usual, so that what is usual says nothing any more."""
    if limit.usual_hold is None or limit.held < limit.capacity:
        return False
    # A moment more is no hint that something hangs.
    bound = limit.usual_hold * 1.5 + 1.0
    return all(each.held_for > bound for each in limit.holders)


def _permits(permits: int) -> str:
    return "a permit" if permits == 1 else f"{permits} permits"
