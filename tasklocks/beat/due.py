"""When the ticks of an entry are due: pure functions of its schedule and of its last run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import islice
from typing import Any

from celery.schedules import crontab, schedule
from celery.utils.time import remaining

__all__ = ["aware", "due_after", "missed_until"]


def due_after(its: Any, last: datetime) -> datetime:
    """Return when the first tick after a run at `last` is due, in UTC.

    The same answer whenever and wherever it is asked, so that two beats speak of the same tick.

    Args:
        its: the schedule of an entry.
        last: when it last ran, with a time zone.
    """
    if isinstance(its, crontab):
        # In the zone of the crontab: not every version of Celery sees to that.
        start, delta, _ = its.remaining_delta(last.astimezone(its.tz))
        return _later(start, remaining(start, delta, start))
    if isinstance(its, schedule) and type(its).remaining_estimate is schedule.remaining_estimate:
        start = its.maybe_make_aware(last)
        return _later(start, remaining(start, its.run_every, start, its.relative))
    # A kind that can only say how long it is from now on; the seconds make the answer the same for everybody.
    return _later(datetime.now(timezone.utc), its.remaining_estimate(last) + timedelta(seconds=0.5)).replace(
        microsecond=0
    )


def missed_until(its: Any, last: datetime, now: datetime, at_most: int) -> list[datetime]:
    """Return the newest ticks that are due after `last` and until `now`, oldest first."""
    # An interval of a second and a year of absence: only the newest are wanted, and counting takes time.
    if isinstance(its, schedule) and not its.relative and its.seconds > 0:
        behind = int((now - last).total_seconds() // its.seconds) - at_most
        last += timedelta(seconds=its.seconds * max(behind, 0))
    return list(islice(_ticks(its, last, now), 100_000))[-at_most:]


def aware(when: datetime) -> datetime:
    """Return `when` with a time zone; Celery takes one without for UTC."""
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)


def _ticks(its: Any, last: datetime, now: datetime) -> Iterator[datetime]:
    due = due_after(its, last)
    while last < due <= now:
        yield due
        last, due = due, due_after(its, due)


def _later(start: datetime, delta: timedelta) -> datetime:
    return start.astimezone(timezone.utc) + delta
