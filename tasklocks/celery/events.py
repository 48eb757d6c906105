"""Celery events of what happens to limits: `task-lock-waiting`, `-acquired`, `-released`, `-lost` and `-skipped`.

They are sent as all events of a worker's tasks: by its main process, through its own dispatcher, if events are enabled
(`celery worker -E`, `celery control enable_events`). A process of the pool writes what it has to say into a pipe, which
never makes a task wait; it opens no connection to the broker, and it makes nothing while events are off.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import select
import time
from typing import Any

from celery import bootsteps, signals

from tasklocks import news
from tasklocks.celery.marks import limits_of
from tasklocks.news import Kind, News

__all__ = ["EVENTS", "Reporting"]

EVENTS: dict[Kind, str] = {
    "waiting": "task-lock-waiting",
    "unreachable": "task-lock-waiting",
    "acquired": "task-lock-acquired",
    "released": "task-lock-released",
    "lost": "task-lock-lost",
    "skipped": "task-lock-skipped",
}
"""The type of the event that tells of each kind of moment; of the others Celery's own event tells, `task-failed`."""

_LOOK = 1.0  # seconds until the pool knows that events were enabled or disabled
_ROOM = 1 << 20  # bytes in the pipe: some thousand events, while the main process has other things to do
_LONGEST = 300  # characters of a reason
_SAID = ("limit", "template", "owner", "permits", "capacity", "waited", "held", "place", "token", "reason")

_logger = logging.getLogger("tasklocks")


class _Pipe:
    """From a worker's processes to the main one: a line for each event. Several may write: short lines do not mix."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self._writer, False)
        self._rest = b""
        _widen(self._writer)

    def put(self, line: bytes) -> None:
        """Write a line; raises `BlockingIOError` if there is no room for it now."""
        os.write(self._writer, line)

    def take(self) -> list[bytes]:
        """Return the lines that were written so far."""
        said = self._rest
        while more := self._read():
            said += more
        *lines, self._rest = said.split(b"\n")
        return lines

    def _read(self) -> bytes:
        try:
            return os.read(self.reader, _ROOM)
        except BlockingIOError:
            return b""


class _Worker:
    """The pipe of this worker; its pool inherits it."""

    pipe: _Pipe | None = None


class Reporting(bootsteps.StartStopStep):
    """Sends what is in the pipe, and lets the pool know whether anybody wants it."""

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._timer: Any = None

    def include_if(self, parent: Any) -> bool:
        """Only workers with limited tasks have such events."""
        return _Worker.pipe is not None

    def start(self, parent: Any) -> None:
        """Begin with a new connection to the broker."""
        self._look(parent)
        # Celery tells of neither: a remote command changes the dispatcher's groups in place.
        self._timer = parent.timer.call_repeatedly(_LOOK, self._look, (parent,))

    def register_with_event_loop(self, parent: Any, hub: Any) -> None:
        """Hear what is said at once; where there is no such loop, with each look."""
        if _Worker.pipe is not None:
            hub.add_reader(_Worker.pipe.reader, self._send, parent)

    def stop(self, parent: Any) -> None:
        """Look no more; what comes meanwhile stays in the pipe."""
        if self._timer is not None:
            self._timer.cancel()

    def shutdown(self, parent: Any) -> None:
        """Send the rest: the last tasks have ended."""
        self._send(parent)
        if parent.event_dispatcher is not None:
            parent.event_dispatcher.flush()
        news.ask(False)

    def _look(self, parent: Any) -> None:
        news.ask(_wanted(parent.event_dispatcher))
        self._send(parent)

    def _send(self, parent: Any) -> None:
        if parent.event_dispatcher is None or _Worker.pipe is None:
            return
        for line in _Worker.pipe.take():
            event = json.loads(line)
            parent.event_dispatcher.send(event.pop("type"), **event)


def _wanted(dispatcher: Any) -> bool:
    # No groups are all groups.
    return bool(
        dispatcher is not None and dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups)
    )


def _say(told: News) -> None:
    if not news.asked() or not told.about.task_id or _Worker.pipe is None:
        return
    line = _line(told)
    try:
        if len(line) <= select.PIPE_BUF:
            _Worker.pipe.put(line)
    except BlockingIOError:
        # News, not state: a main process that is busy must not hold up tasks.
        _logger.debug("limit %r: no event of %s, too many are on their way", told.about.limit, told.kind)


def _line(told: News) -> bytes:
    facts = news.facts(told)
    said = {name: facts[name] for name in _SAID if facts[name] is not None}
    said["reason"] = told.reason[:_LONGEST]
    about = {"type": EVENTS[told.kind], "uuid": told.about.task_id, "name": told.about.task, "timestamp": time.time()}
    return json.dumps({**about, **said}).encode() + b"\n"


def _widen(pipe: int) -> None:
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _ROOM)
    except (AttributeError, OSError):
        _logger.debug("the pipe for events has the system's size")


@signals.worker_init.connect(dispatch_uid="tasklocks.events")
def _install(sender: Any = None, **_: Any) -> None:
    if any(limits_of(task) for task in sender.app.tasks.values()):
        _Worker.pipe = _Pipe()
        news.subscribe(_say, EVENTS, if_asked=True)
        sender.app.steps["consumer"].add(Reporting)
