"""All that the page shows of one limit: each holder, each waiter and why it waits, and the last minutes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tasklocks.cli.sentences import why_text
from tasklocks.overview import view
from tasklocks.types import LimitState
from tasklocks.views import HolderView, LimitView, WaiterView
from tasklocks.web.hiding import Shown
from tasklocks.web.history import Past, Sample, Span

__all__ = ["detail", "strip", "timeline"]

_SHOWN = 100
"""Holders, and waiters, of one limit."""


def detail(state: LimitState, at: float, size: int | None, shown: Shown) -> dict[str, Any]:
    """Return what is known of a limit at `at`, backend's clock; `size`: what an operator said that it has."""
    # The first waiters' turns depend on no other waiters than themselves.
    limit = view(replace(state, name=shown(state.name), waiters=state.waiters[:_SHOWN]), at)
    return {
        "name": limit.name,
        "kind": limit.kind,
        "capacity": limit.capacity,
        "held": limit.held,
        "usual": limit.usual_hold,
        "resized": size,
        "holders": [_holder(limit, each, at) for each in limit.holders[:_SHOWN]],
        "waiters": [_waiter(limit, each) for each in limit.waiters],
        "holding": len(limit.holders),
        "waiting": len(state.waiters),
    }


def strip(past: Past) -> list[Sample]:
    """Return the last minutes of a limit in numbers."""
    return [(round(at, 2), capacity, held, waiting) for at, capacity, held, waiting in past.samples]


def timeline(past: Past) -> dict[str, Any]:
    """Return the last minutes of a limit with everybody who held and waited, as far as they were seen."""
    return {"samples": strip(past), "holds": _spans(past.holds.values()), "waits": _spans(past.waits.values())}


def _holder(limit: LimitView, each: HolderView, at: float) -> dict[str, Any]:
    return {
        "task": each.who.task,
        "id": each.who.id,
        "worker": each.who.worker,
        "pid": each.who.pid,
        "owner": each.owner,
        "permits": each.permits,
        "since": each.since,
        "ends": round(at + each.lease_left, 1),
        # Of 16 digits, and the browser's numbers have no more.
        "token": str(each.fencing_token),
        "why": why_text(limit, each),
    }


def _waiter(limit: LimitView, each: WaiterView) -> dict[str, Any]:
    return {
        "place": each.place,
        "task": each.who.task,
        "id": each.who.id,
        "worker": each.who.worker,
        "ticket": each.ticket,
        "permits": each.permits,
        "since": each.since,
        "listening": each.listening,
        "expected": None if each.expected_in is None else round(each.expected_in, 1),
        "why": why_text(limit, each),
    }


def _spans(spans: Iterable[Span]) -> list[Any]:
    return [[each.label, each.permits, round(each.since, 1), each.until and round(each.until, 1)] for each in spans]
