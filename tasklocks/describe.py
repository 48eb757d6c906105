"""Sentences about limits for people: who holds, since when."""

from __future__ import annotations

from tasklocks import who
from tasklocks.types import Busy, Holder

__all__ = ["busy_text", "holder_text"]


def busy_text(name: str, busy: Busy | None) -> str:
    """Say that a limit is busy and who holds it since when."""
    if busy is None or not busy.holders:
        return f"limit {name!r} has no free permit"
    others = "" if len(busy.holders) == 1 else f" and {len(busy.holders) - 1} more"
    return f"limit {name!r} (capacity {busy.capacity}) is held by {holder_text(busy.holders[0], busy)}{others}"


def holder_text(holder: Holder, busy: Busy) -> str:
    """Say who a holder is and since when it holds."""
    facts = who.read(holder.info)
    task = f"{facts['task']}[{facts.get('id', '?')}]" if "task" in facts else holder.owner
    place = f" on {facts['host']} pid {facts.get('pid', '?')}" if "host" in facts else ""
    return f"{task}{place} since {max(0.0, busy.server_time - holder.since):.1f} s"
