"""Beats as the page shows them: who leads each schedule, and its last ticks, from what the poller has read anyway."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any

from tasklocks import who
from tasklocks.beat.book import Run, runs_in, schedule_of
from tasklocks.types import LimitState
from tasklocks.web.snapshot import Snapshot

__all__ = ["beats"]

_TICKS = 30


def beats(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return each schedule that has a book, with its leader and its newest ticks."""
    runs: dict[str, dict[str, Run]] = {}
    for name, text in snapshot.texts.items():
        if schedule := schedule_of(name):
            runs.setdefault(schedule, {}).update(runs_in(text))
    return [_beat(snapshot.limit(schedule), ticks) for schedule, ticks in sorted(runs.items())]


def _beat(state: LimitState, runs: Mapping[str, Run]) -> dict[str, Any]:
    ran = [(entry, run) for entry, run in runs.items() if run.due]
    newest = heapq.nlargest(_TICKS, ran, key=lambda each: (each[1].last, each[0]))
    return {
        "schedule": state.name,
        "leader": _leader(state),
        "entries": len(runs),
        "ticks": [
            {"entry": entry, "at": run.last / 1e6, "due": run.due / 1e6, "sent": run.sent} for entry, run in newest
        ],
    }


def _leader(state: LimitState) -> dict[str, Any] | None:
    if not state.holders:
        return None
    first = state.holders[0]
    facts = who.read(first.info)
    return {
        "host": facts.get("host", "?"),
        "pid": facts.get("pid", "?"),
        "since": first.since,
        "token": str(first.fencing_token),
    }
