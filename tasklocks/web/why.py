"""Why a task waits, in a sentence, from what the poller has read anyway."""

from __future__ import annotations

from dataclasses import replace

from tasklocks import who
from tasklocks.cli.sentences import why_text
from tasklocks.overview import view
from tasklocks.types import LimitState
from tasklocks.views import HolderView, WaiterView
from tasklocks.web.hiding import Shown
from tasklocks.web.snapshot import Snapshot

__all__ = ["sentences"]

_MOST = 20


def sentences(snapshot: Snapshot, task: str, shown: Shown) -> list[dict[str, str]]:
    """Return a sentence for each place where a task holds or waits; `task` is its id, or the beginning of it."""
    found: list[dict[str, str]] = []
    for state in snapshot.limits.values():
        if _is_about(state, task):
            limit = view(replace(state, name=shown(state.name)), snapshot.at)
            places: tuple[HolderView | WaiterView, ...] = (*limit.holders, *limit.waiters)
            found += [
                {"limit": limit.name, "sentence": why_text(limit, each)}
                for each in places
                if each.who.id.startswith(task)
            ]
        if len(found) >= _MOST:
            break
    return found[:_MOST]


def _is_about(state: LimitState, task: str) -> bool:
    # Looked for as a text first: that is nearly always no, and quick.
    infos = [*(each.info for each in state.holders), *(each.info for each in state.waiters)]
    return any(task in info and who.read(info).get("id", "").startswith(task) for info in infos)
