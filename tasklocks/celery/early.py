"""Reserves a start when the message arrives, before the task takes a place in the pool.

A start that comes soon: the worker holds the task until then, as any with an ETA. One that is further away: the message
goes back to the broker with its reservation, so that it is not lost with this worker; it is acknowledged once it is
there. Locks come first and are taken in the pool, so tasks that have any are left to it, as are several rates and
whatever goes wrong here: there an error belongs to its task.

Backends are asked on a thread, for one that hangs must not hold up the worker's event loop: heartbeats, remote control
and all other tasks wait for that. Meanwhile a message counts as reserved by the worker, so no more than the prefetch
limit are with the thread.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from celery import Celery, Task, bootsteps, signals
from celery.worker import state

from tasklocks import clock
from tasklocks.celery.arrived import as_in_pool
from tasklocks.celery.back import put_back
from tasklocks.celery.conf import settings_of
from tasklocks.celery.inbox import Inbox
from tasklocks.celery.marks import limits_of
from tasklocks.celery.prefetch import prefetch_of
from tasklocks.celery.rate_spec import RateSpec
from tasklocks.celery.routes import delays_natively
from tasklocks.celery.slots import SHORT
from tasklocks.celery.subject import about_message
from tasklocks.celery.waited import HEADER, Booked, Waited, written
from tasklocks.celery.wish import wish_of
from tasklocks.errors import BackendUnavailable
from tasklocks.news import tell, watched
from tasklocks.types import Slot

__all__ = ["GONE", "Desk", "Early", "only_rate"]

_SOON = 10.0  # seconds; as much as a killed worker may leave unused
_LEAVE_ALONE = 5.0  # seconds for which a backend that did not answer is not asked here
_ROOM = 20  # messages by which the prefetch limit moves with those that are held: each move asks RabbitMQ
_STOPPING = 5.0  # seconds that a stopping worker waits for what is being asked

GONE = object()
"""The answer for a message that went back to the broker."""

_logger = logging.getLogger("tasklocks")


class Early(bootsteps.StartStopStep):
    """Stands between the worker's messages and its pool."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._consumer = parent
        self._desk: Desk | None = None
        self._prefetch = prefetch_of(parent)
        self._held = self._room = 0
        self._has_loop = False

    def include_if(self, parent: Any) -> bool:
        """Only workers with such tasks need the thread."""
        return any(only_rate(task) for task in parent.app.tasks.values())

    def create(self, parent: Any) -> None:
        """Stand there: the tasks' strategies look it up when the consumer starts."""
        self._inbox: Inbox[tuple[Any, Any]] = Inbox()
        self._pass_on = parent.on_task_request
        parent.on_task_request = self._receive

    def start(self, parent: Any) -> None:
        """Begin to ask."""
        self._held = self._room = 0
        self._prefetch.begin()
        self._inbox.open()
        self._desk = Desk(parent.app, self._answered)

    def stop(self, parent: Any) -> None:
        """Acknowledge what has gone back to the broker; what was not asked yet is delivered again."""
        if self._desk is not None:
            self._desk.close()
            self._desk = None
        for request, answer in self._inbox.shut():
            if answer is GONE:
                self._drop(request)

    def register_with_event_loop(self, parent: Any, hub: Any) -> None:
        """Let the loop hear of answers (called for each connection to the broker)."""
        self._has_loop = True
        hub.add_reader(self._inbox.reader, self._take_answers)

    def _receive(self, request: Any) -> None:
        limit = None if HEADER in request.request_dict else only_rate(request.task)
        if self._desk is None or limit is None:
            self._pass_on(request)
        else:
            self._desk.ask(request, limit)

    def _answered(self, request: Any, answer: Any) -> None:
        """Hand an answer to the loop (called on the thread)."""
        if self._inbox.put((request, answer)) and not self._has_loop:
            self._consumer.timer.call_after(0, self._take_answers)

    def _take_answers(self) -> None:
        for request, answer in self._inbox.take():
            if answer is GONE:
                self._drop(request)
            elif request not in state.reserved_requests:
                continue  # the connection that it came by is lost, so it is delivered again
            elif answer is None or answer <= SHORT:
                self._pass_on(request)
            else:
                self._hold(request, answer)

    def _drop(self, request: Any) -> None:
        state.task_ready(request)
        request.message.ack_log_error(_logger, self._consumer.connection_errors)

    def _hold(self, request: Any, wait: float) -> None:
        """Keep the message until its start, as the worker keeps one with an ETA."""
        request._eta = datetime.now(timezone.utc) + timedelta(seconds=wait)
        state.reserved_requests.discard(request)
        self._count(1)
        # By these Celery forgets it when the connection is lost; before 5.7 it clears its whole timer.
        request._eta_timer_entry = self._consumer.timer.call_after(wait, self._let_go, (request,), priority=6)
        getattr(state, "task_scheduled", lambda _: None)(request)

    def _let_go(self, request: Any) -> None:
        state.task_reserved(request)
        self._pass_on(request)
        self._count(-1)

    def _count(self, more: int) -> None:
        """Let as many more messages come as are held here."""
        self._held += more
        self._prefetch.keep()
        if self._held > self._room:
            self._room += self._prefetch.raise_(_ROOM)
        elif self._held <= self._room - 2 * _ROOM:
            self._room -= _ROOM
            self._prefetch.lower(_ROOM)


class Desk:
    """Asks for starts, one message after the other, on a thread of its own.

    Args:
        app: the worker's.
        answered: called on the thread with each message and its answer: the seconds until the start that is reserved
            now; None if the pool has to ask; `GONE` if the message is in the broker again.
    """

    def __init__(self, app: Celery, answered: Callable[[Any, Any], None]) -> None:
        self._app = app
        self._answered = answered
        self._asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._trouble_until = 0.0
        self._closed = False
        self._sends = not delays_natively(app)
        self._thread = threading.Thread(target=self._run, name="tasklocks-early", daemon=True)
        self._thread.start()

    def ask(self, request: Any, limit: RateSpec) -> None:
        """Take a message; `limit` is what `only_rate` returns for its task."""
        self._asked.put((request, limit))

    def close(self) -> None:
        """End the thread; messages that were not asked for yet get no answer."""
        self._closed = True
        self._asked.put(None)
        self._thread.join(_STOPPING)

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None and not self._closed:
            self._answered(asked[0], self._answer(*asked))

    def _answer(self, request: Any, limit: RateSpec) -> Any:
        if clock.now() < self._trouble_until:
            return None
        try:
            slot = reserved(request, limit, None if self._sends else _SOON)
            if slot is None:
                return None
            return GONE if slot.wait > _SOON and self._sent_back(request, slot.wait) else slot.wait
        except BackendUnavailable as down:
            self._trouble_until = clock.now() + _LEAVE_ALONE
            _logger.warning("starts are reserved in the pool for a while: %s", down)
        except Exception:
            _logger.debug("the start of %s is left to the pool", request.id, exc_info=True)
        return None

    def _sent_back(self, request: Any, wait: float) -> bool:
        """Put the message into the broker again, due at its start; False: it has to be held."""
        bound = settings_of(self._app).max_countdown
        return put_back(self._app, request, request.request_dict[HEADER], wait, bound)


def only_rate(task: Task) -> RateSpec | None:
    """Return the rate limit of a task that has no other limit and may be sent away."""
    limits = limits_of(task)
    if len(limits) != 1 or not isinstance(limits[0], RateSpec) or limits[0].on_busy != "retry":
        return None
    return limits[0]


def reserved(request: Any, limit: RateSpec, longest: float | None) -> Slot | None:
    """Reserve the start of a message, and note it among what the pool gets; None: it is refused.

    Args:
        request: the message.
        limit: what `only_rate` returns for its task.
        longest: seconds; a later start is not reserved. None: the task's own bound.
    """
    wish = as_in_pool(request, lambda settings, work: wish_of(limit, settings, work))
    bounds = [bound for bound in (longest, limit.max_wait) if bound is not None]
    slot = wish.reserve(min(bounds, default=None))
    if not isinstance(slot, Slot):
        return None
    if watched[0] and slot.wait > SHORT:
        about = about_message(request, limit, wish.name, wish.backend)
        tell("waiting", about, reason=f"starts in {slot.wait:.1f} s")
    request.request_dict[HEADER] = written(Waited(slots=(Booked(wish.name, slot.start, slot.made),)))
    return slot


@signals.worker_init.connect(dispatch_uid="tasklocks.early")
def _add(sender: Any = None, **_: Any) -> None:
    sender.app.steps["consumer"].add(Early)
