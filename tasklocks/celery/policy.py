"""What a limit leads to that is not free, whatever its kind: the one place for all backends.

| the limit is busy and | in a worker's task | in a map, or called directly |
|---|---|---|
| `on_busy="retry"` | sent again with a countdown | waits in place |
| `"wait"` | waits in place | waits in place |
| `"skip"` | ends without running | returns None |
| `"raise"` | `LockBusy` | `LockBusy` |
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from celery.exceptions import Retry, SoftTimeLimitExceeded

from tasklocks import clock, news
from tasklocks.backoff import when_unreachable
from tasklocks.celery.calls import Call, Kind
from tasklocks.celery.marks import Limit
from tasklocks.celery.resend import send_again
from tasklocks.celery.subject import about_call, waited_since
from tasklocks.celery.waited import Waited
from tasklocks.errors import BackendUnavailable, LockBusy, LockTimeout

__all__ = ["Away", "called", "patience", "patiently", "refuse", "send_away"]

_logger = logging.getLogger("tasklocks")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Away:
    """How a task goes away.

    Attributes:
        where: the task and its id, for the log.
        countdown: says for how many seconds it stays away, each time it is tried to be sent.
        waited: what it carries.
        reason: what its state says meanwhile.
    """

    where: str
    countdown: Callable[[], float]
    waited: Waited
    reason: LockBusy


def called(call: Call, limit: Limit) -> str:
    """Return the task and its id, for messages."""
    return f"{limit.where}[{call.id}]" if call.id else limit.where


def patience(call: Call, limit: Limit) -> float | None:
    """Return for how long the call waits in place, in seconds; None: without bound."""
    if limit.on_busy in ("skip", "raise"):
        return 0.0
    if limit.max_wait is None:
        return 0.0 if call.kind is Kind.DIRECT else None
    return limit.max_wait


def patiently(timeout: float | None, step: Callable[[float | None], T]) -> T:
    """Return `step(seconds left)`, asked again while the backend does not answer and time is left."""
    began = clock.now()
    tries = 0
    while True:
        left = None if timeout is None else max(0.0, timeout - (clock.now() - began))
        try:
            return step(left)
        except BackendUnavailable:
            tries += 1
            pause = when_unreachable(tries)
            if left is not None and left <= pause:
                raise
            clock.pause(pause)


def refuse(call: Call, limit: Limit, busy: LockBusy) -> None:
    """Tell of it, and raise unless the call is to be skipped."""
    kind: news.Kind = (
        "skipped" if limit.on_busy == "skip" else "timed_out" if isinstance(busy, LockTimeout) else "refused"
    )
    news.tell(kind, about_call(call, limit, busy.name), waited=waited_since(call.waited.since), reason=str(busy))
    if kind == "skipped":
        return
    raise type(busy)(f"{called(call, limit)}: {busy}", name=busy.name, busy=busy.busy) from None


def send_away(call: Call, away: Away, stay: Callable[[], T | None]) -> T:
    """Send the task again.

    Returns:
        What `stay` answers, and only if the task cannot be sent: then it waits there, in the worker.

    Raises:
        Retry: it was sent.
    """
    while True:
        countdown = round(max(0.0, away.countdown()), 3)
        try:
            sent = send_again(call.task, countdown, away.waited)
        except SoftTimeLimitExceeded:
            raise
        except Exception:
            # The message may be acknowledged already: raising now would lose the task. So it stays and stands in line.
            _logger.warning("%s waits here: it could not be sent again", away.where, exc_info=True)
        else:
            # The way here is no part of the reason, and would be sent and kept with it.
            raise Retry(exc=away.reason, when=countdown, sig=sent) from None
        stayed = stay()
        if stayed is not None:
            return stayed
