"""Everything that knows Celery: the decorators, the task class, the resend, and what a worker checks at its start."""

from __future__ import annotations

from tasklocks.celery import admission as _admission  # noqa: F401 - connects the holding of messages
from tasklocks.celery import early as _early  # noqa: F401 - connects the reservation of starts on arrival
from tasklocks.celery import events as _events  # noqa: F401 - connects the sending of events
from tasklocks.celery import fetch as _fetch  # noqa: F401 - connects what fetches tasks that wait long
from tasklocks.celery import runs as _runs  # noqa: F401 - connects the end of runs that must not overlap
from tasklocks.celery import watch as _watch  # noqa: F401 - connects the watch over the pool
from tasklocks.celery import watchers as _watchers  # noqa: F401 - connects metrics and traces
from tasklocks.celery import worker as _worker  # noqa: F401 - connects the worker's check
from tasklocks.celery.locked import locked
from tasklocks.celery.rated import rate_limited
from tasklocks.celery.task import LockedTask

__all__ = ["LockedTask", "locked", "rate_limited"]
