"""Whose thread the desk works in: Celery's event loop, or, where that cannot be woken, a thread of ours."""

from __future__ import annotations

import functools
import logging
import queue
import select
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from tasklocks import clock
from tasklocks.celery.admission.asking import Answer
from tasklocks.celery.admission.desk import Desk
from tasklocks.celery.admission.held import Held
from tasklocks.celery.admission.where import runs_in_loop
from tasklocks.celery.inbox import Inbox

__all__ = ["Turns", "turns_of"]

_LOOKS = 0.25  # seconds between two looks around
_FIRST = 0.05  # seconds for which a free task waits at the most, in the solo pool, for one that may be granted now

_logger = logging.getLogger("tasklocks")


class Turns(Protocol):
    """What the bootstep needs of either kind.

    Attributes:
        inbox: where the desk hears the threads.
    """

    inbox: Inbox[Answer | None]

    def enter(self, request: Any) -> None:
        """Give a task to the pool."""

    def later(self, function: Callable[[], object]) -> object:
        """Run a function where Celery talks to the broker."""

    def begin(self, desk: Desk) -> Callable[[Any], object]:
        """Work for that desk; return what takes the messages."""

    def start(self) -> None:
        """Begin with a new connection to the broker."""

    def register(self, hub: Any) -> None:
        """Begin with Celery's event loop, if there is one."""

    def clear(self) -> Sequence[Held]:
        """Let the desk hold nothing any more; see `Desk.clear`."""

    def read(self, function: Callable[[], Any]) -> Any:
        """Return what `function` reads from the desk, from any thread of Celery's."""

    def close(self) -> None:
        """End the threads."""


def turns_of(consumer: Any) -> Turns:
    """Return the right kind for a worker."""
    if consumer.hub is None:
        return OnThread(consumer)
    return InLoop(consumer, alone=runs_in_loop(consumer.controller))


class InLoop:
    """In Celery's event loop.

    Args:
        consumer: Celery's.
        alone: whether the loop runs the tasks' bodies, too, and hears nothing meanwhile (solo).
    """

    def __init__(self, consumer: Any, *, alone: bool) -> None:
        self.inbox: Inbox[Answer | None] = Inbox()
        self._process = consumer.on_task_request
        self._alone = alone
        self._timer: Any = None

    def enter(self, request: Any) -> None:
        """See `Turns.enter`."""
        if not self._alone:
            self._process(request)
            return
        # Whoever was granted a permit while the body runs could not use it.
        self._desk.rest()
        try:
            self._process(request)
        finally:
            self.inbox.open()

    def later(self, function: Callable[[], object]) -> object:
        """See `Turns.later`."""
        return function()

    def begin(self, desk: Desk) -> Callable[[Any], object]:
        """See `Turns.begin`."""
        self._desk = desk
        return self._received if self._alone else desk.received

    def start(self) -> None:
        """See `Turns.start`."""
        self.inbox.open()

    def register(self, hub: Any) -> None:
        """See `Turns.register`."""
        hub.add_reader(self.inbox.reader, self._desk.read_inbox)
        self._timer = hub.call_repeatedly(_LOOKS, self._desk.look_around)

    def clear(self) -> Sequence[Held]:
        """See `Turns.clear`."""
        if self._timer is not None:
            self._timer.cancel()
        return self._desk.clear()

    def read(self, function: Callable[[], Any]) -> Any:
        """See `Turns.read`."""
        return function()

    def close(self) -> None:
        """See `Turns.close`."""

    def _received(self, request: Any) -> None:
        # Those who have just asked are heard first: where one body follows the other, there is no other time for them.
        if self._desk.lines.unanswered and select.select([self.inbox.reader], [], [], _FIRST)[0]:
            self._desk.read_inbox()
        self._desk.received(request)


class OnThread:
    """Beside Celery's synchronous loop, which waits for messages for seconds and cannot be woken.

    One thread hears the others and looks around; messages come on Celery's own threads; so there is a lock around the
    desk. Nobody waits for anything under it: to give a task to a full pool is to wait, in this kind of worker, so
    another thread does that, in order.
    """

    def __init__(self, consumer: Any) -> None:
        self._woken = threading.Event()
        self.inbox: Inbox[Answer | None] = Inbox(self._woken.set)
        self.later = consumer.call_soon
        self._process = consumer.on_task_request
        self._lock = threading.RLock()
        self._entering: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._runs = self._closed = False
        self._threads: Sequence[threading.Thread] = ()

    def enter(self, request: Any) -> None:
        """See `Turns.enter`."""
        self._entering.put(request)

    def begin(self, desk: Desk) -> Callable[[Any], object]:
        """See `Turns.begin`."""
        self._desk = desk
        return self._received

    def start(self) -> None:
        """See `Turns.start`."""
        with self._lock:
            self.inbox.open()
            self._runs = True
        if not self._threads:
            self._threads = [_started(self._work, "tasklocks-desk"), _started(self._let_in, "tasklocks-entrance")]

    def register(self, hub: Any) -> None:
        """See `Turns.register`."""

    def clear(self) -> Sequence[Held]:
        """See `Turns.clear`."""
        with self._lock:
            self._runs = False
            left = self._desk.clear()
        # These have no leases any more, and the broker delivers them again.
        with suppress(queue.Empty):
            while True:
                self._entering.get_nowait()
        return left

    def read(self, function: Callable[[], Any]) -> Any:
        """See `Turns.read`."""
        with self._lock:
            return function()

    def close(self) -> None:
        """See `Turns.close`."""
        self._closed = True
        self._woken.set()
        self._entering.put(None)

    def _received(self, request: Any) -> None:
        if not self._desk.sees_to(request.task):
            # As without admission: a full pool stops the loop, so that it fetches no more.
            self._process(request)
            return
        with self._lock:
            self._desk.received(request)

    def _work(self) -> None:
        looks_at = clock.now()
        while not self._closed:
            self._woken.wait(_LOOKS)
            self._woken.clear()
            with self._lock:
                if self._runs:
                    _safely(self._desk.read_inbox)
                    if clock.now() >= looks_at:
                        looks_at = clock.now() + _LOOKS
                        _safely(self._desk.look_around)

    def _let_in(self) -> None:
        while (request := self._entering.get()) is not None:
            _safely(functools.partial(self._process, request))


def _started(run: Callable[[], object], name: str) -> threading.Thread:
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def _safely(step: Callable[[], object]) -> None:
    try:
        step()
    except Exception:
        # Whatever it was about, the next message must be heard.
        _logger.exception("something of a held message went wrong")
