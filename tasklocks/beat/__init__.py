"""A beat that any number of hosts may run: one of them leads, the others take over when it ends."""

from __future__ import annotations

from tasklocks.beat import show as _show  # noqa: F401 - adds `celery inspect beat_leader`
from tasklocks.beat.lead import Leader, leader
from tasklocks.beat.scheduler import LeaderScheduler

__all__ = ["Leader", "LeaderScheduler", "leader"]
