"""Who is calling: a worker that runs the task's body, a map over the task, or plain code.

Only the body of the worker's own task can be sent again. Inside `map`, `starmap` and `chunks` a resend would repeat the
items that are done already; in a call from another task's body it would repeat that body; in eager mode it would
recurse. There, a busy limit is waited for in place, or fails.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Celery, Task, _state

from tasklocks import who
from tasklocks.celery.conf import app_in_use
from tasklocks.celery.marks import body_of, wrapped_chain
from tasklocks.celery.waited import HEADER, Waited, read

__all__ = ["CONTENT_TYPE", "LEASES", "OURS", "Call", "Kind", "current_call", "enter_body"]

CONTENT_TYPE = "tasklocks_content_type"
"""The key under which the worker's main process tells the pool how the message was serialized."""

LEASES = "tasklocks_leases"
"""The key under which the worker's main process gives the leases that it has taken to the body, see `admission`."""

OURS = frozenset({HEADER, CONTENT_TYPE, LEASES})
"""What tasklocks writes into a request: none of it is to go on with what the body sends."""
_MAPS = frozenset({"celery.map", "celery.starmap", "celery.chunks"})


class Kind(enum.Enum):
    """What a busy limit may lead to."""

    BODY = "the body of a worker's task: it can be sent again"
    MAPPED = "an item of a map in a worker: it waits in place, without bound unless told"
    DIRECT = "plain code, another task's body, or eager mode: it waits in place, not at all unless told"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a limited function.

    Attributes:
        kind: what a busy limit may lead to.
        app: the app whose settings count; None: no app is there.
        task: the Celery task that runs; None in plain code.
        where: what errors and holders' lists call it.
        waited: what the header says.
    """

    kind: Kind
    app: Celery | None
    task: Task | None
    where: str
    waited: Waited

    @property
    def id(self) -> str:
        """The task's id, or empty."""
        return (self.task.request.id or "") if self.task is not None else ""

    def info(self) -> str:
        """Return what `inspect` shows about the holder; never the arguments."""
        if self.task is None:
            return who.this_process()
        request = self.task.request
        host = request.hostname or who.read(who.this_process()).get("host", "")
        return who.written(task=self.task.name, id=request.id or "", host=host, pid=str(os.getpid()))


def current_call(body: Callable[..., Any], where: str) -> Call:
    """Return what kind of call of `body` this is.

    Args:
        body: the function that Celery runs if it runs this task: it is looked for behind the task's `run`.
        where: the function's name, for calls outside a task.
    """
    task = _state.get_current_task()
    if task is None:
        return Call(Kind.DIRECT, app_in_use(), None, where, Waited())
    request = task.request
    if not _runs(task, body):
        return Call(Kind.DIRECT, task.app, None, where, Waited())
    if request.called_directly:
        return Call(_kind_inside(), task.app, task, where, Waited())
    if request.is_eager or getattr(request, "tasklocks_entered", False):
        return Call(Kind.DIRECT, task.app, task, where, Waited())
    return Call(Kind.BODY, task.app, task, where, read(request.headers))


def enter_body(call: Call) -> None:
    """Note that the body runs now: its waiting is over, and a call of itself from inside is not the body again."""
    if call.kind is not Kind.BODY or call.task is None:
        return
    request = call.task.request
    request.tasklocks_entered = True
    # The task's own retries copy the headers; a later wait starts from zero.
    if request.headers:
        request.headers = {key: value for key, value in request.headers.items() if key not in OURS} or None


def _kind_inside() -> Kind:
    """Return the kind of a direct call of a task: an item of a worker's map is called by the map itself."""
    caller = next(iter(_state._task_stack.stack[-2:-1]), None)
    if caller is None or caller.name not in _MAPS or caller.request.is_eager:
        return Kind.DIRECT
    return Kind.MAPPED


def _runs(task: Task, body: Callable[..., Any]) -> bool:
    """Tell whether `body` is what Celery runs for `task`, perhaps behind other decorators."""
    return any(function is body for function in wrapped_chain(body_of(task)))
