"""Where a task is that no backend knows of: in a worker, in a queue of the broker, or over, says the result backend.

Asked in this order, each only if the one before knows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any, TypeVar

from celery import Celery
from celery.app.control import Control
from celery.backends.base import DisabledBackend
from kombu.connection import Connection

from tasklocks import LockBusy
from tasklocks.backends import Backend
from tasklocks.cli.output import ago, say, when
from tasklocks.cli.queues import Queued, find_queued, queue_sizes
from tasklocks.names import escaped
from tasklocks.overview import backend_clock, look_at_rate

__all__ = ["find_elsewhere", "unseen"]

T = TypeVar("T")


def find_elsewhere(backend: Backend, app: Celery | None, task_id: str, patience: float) -> list[dict[str, Any]]:
    """Return what is known of a task that neither holds nor waits in the backend: what it does, where, and a sentence.

    Args:
        backend: for its clock, and for pauses.
        app: whose workers, queues and results are asked. None: nobody can be asked.
        task_id: the task's id, or the beginning of it.
        patience: seconds that workers have to answer.
    """
    if app is None:
        return []
    at_broker = _quietly(lambda: _at_broker(backend, app, task_id, patience))
    return at_broker or _quietly(lambda: list(_ended(app, task_id)))


def unseen(app: Celery) -> str:
    """Return in words which queues hold messages that nobody can look at; empty if there are none."""
    sizes = _quietly(lambda: [_unseen(app)])
    return ", ".join(f"{size} in {name!r}" for name, size in (sizes[0] if sizes else {}).items())


def _unseen(app: Celery) -> dict[str, int]:
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0.1)
        return {} if connection.transport.driver_type == "redis" else queue_sizes(app, connection)


def _quietly(step: Callable[[], list[T]]) -> list[T]:
    try:
        return step()
    except Exception as error:  # noqa: BLE001 - brokers and result backends have errors of their own, each others
        say(f"not everybody could be asked: {type(error).__name__}", aside=True)
        return []


def _at_broker(backend: Backend, app: Celery, task_id: str, patience: float) -> list[dict[str, Any]]:
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0.1)
        found = list(_in_workers(backend, app.control, connection, task_id, patience))
        return found or [_queued(backend, each) for each in find_queued(app, connection, task_id)]


def _in_workers(
    backend: Backend, control: Control, connection: Connection, task_id: str, patience: float
) -> Iterator[dict[str, Any]]:
    asked = {"connection": connection, "reply": True, "timeout": patience}
    answers = control.broadcast("limits_why", arguments={"task_id": task_id}, **asked) or []
    for worker, facts in sorted((each for answer in answers for each in answer.items()), key=itemgetter(0)):
        # An older worker does not know the question, and answers with an error.
        for fact in facts if isinstance(facts, list) else ():
            sentence = f"{fact['task']}[{fact['id']}] {_in_worker(backend, worker, fact)}."
            limits = [fact["limit"]] if "limit" in fact else []
            yield _answer(fact["does"], worker, sentence, fact["slots"], *limits)


def _in_worker(backend: Backend, worker: str, fact: dict[str, Any]) -> str:
    if fact["does"] == "runs":
        return f"runs on {worker} pid {fact['pid']}; it holds no lock here"
    if fact["does"] == "waits for a place":
        return f"has reached {worker} and waits for a free place in its pool; it waits for no limit yet"
    if fact["does"] == "waits for a lock":
        return (
            f"is held by {worker}, which waits for {fact['limit']!r} with it; others of that worker are in front of it"
        )
    return f"is held by {worker} until its time comes{_due(fact['eta'])}{_reserved(backend, fact['slots'])}"


def _queued(backend: Backend, each: Queued) -> dict[str, Any]:
    reserved = _reserved(backend, each.slots)
    who = f"{each.task}[{each.id}]"
    if each.again is not None:
        place = (
            "was fetched by a worker that does not answer, or is gone; unless that one ends it, the broker delivers it"
        )
        return _answer("was fetched", "", f"{who} {place} again at {when(each.again)}{reserved}.", each.slots)
    if each.stays or each.eta:
        place = f"stays in the queue {each.queue!r} of the broker until its time comes{_due(each.eta)}"
        return _answer("is due", each.queue, f"{who} {place}{reserved}.", each.slots)
    place = f"is in the queue {each.queue!r} of the broker, behind {each.ahead} others"
    return _answer("is queued", each.queue, f"{who} {place}{reserved}; no worker has fetched it yet.", each.slots)


def _due(eta: float | None) -> str:
    return "" if eta is None else f", at {when(eta)}"


def _reserved(backend: Backend, slots: list[list[Any]]) -> str:
    now = backend_clock(backend) if slots else 0.0
    return "".join(_start(backend, name, start - now) for name, start, *_ in slots)


def _start(backend: Backend, name: str, left: float) -> str:
    rate = look_at_rate(backend, name)
    paused = rate.paused_for if rate else 0.0
    moved = f" ({name!r} is paused for {ago(paused)} yet, and moves it)" if paused else ""
    said = f"in {ago(left)}" if left > 0 else "now"
    return f"; it has reserved its start under the rate limit {name!r}: {said}{moved}"


def _ended(app: Celery, task_id: str) -> Iterator[dict[str, Any]]:
    if isinstance(app.backend, DisabledBackend):
        return
    result = app.AsyncResult(task_id)
    state = result.state
    if state == "RETRY":
        # Our own reasons only: another one may tell the task's arguments.
        reason = f": {result.result}" if isinstance(result.result, LockBusy) else ""
        yield _answer("comes back", "", f"{task_id} was sent again and comes back{reason}.", [])
    elif state in ("SUCCESS", "FAILURE", "REVOKED", "IGNORED"):
        # Of an error its kind only: what it says may tell the task's arguments.
        kind = f" ({type(result.result).__name__})" if state == "FAILURE" else ""
        at = f" at {result.date_done.isoformat(sep=' ', timespec='seconds')}" if result.date_done else ""
        yield _answer("has ended", "", f"{task_id} has ended: {state}{kind}{at}.", [])


def _answer(does: str, where: str, sentence: str, slots: Sequence[Sequence[Any]], *limits: str) -> dict[str, Any]:
    names = [*limits, *(name for name, *_ in slots)]
    return {"does": does, "where": where, "limits": names, "sentence": escaped(sentence)}
