"""When an entry last ran, in the form in which its kind of scheduler keeps it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

__all__ = ["micros", "moment", "set_last_run"]


def micros(when: datetime) -> int:
    """Return a moment as microseconds since the epoch."""
    return round(when.timestamp() * 1_000_000)


def moment(at: int) -> datetime:
    """Return microseconds since the epoch as a moment, in UTC."""
    return datetime.fromtimestamp(at / 1_000_000, timezone.utc)


def set_last_run(entry: Any, at: int) -> None:
    """Let an entry have run last at this moment, in the form that its scheduler uses."""
    last: datetime = moment(at)
    before = entry.last_run_at
    if before is not None and before.tzinfo is None:
        last = last.replace(tzinfo=None)
    elif before is not None:
        last = last.astimezone(before.tzinfo)
    entry.last_run_at = last
    # An entry of django_celery_beat makes the next one from its row.
    if (model := getattr(entry, "model", None)) is not None:
        model.last_run_at = last
