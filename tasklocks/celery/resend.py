"""Sends a task again that found its limit busy: the same task in every respect, only later.

Celery's own `signature_from_request` keeps id, group, chord, chain, callbacks, expiry, limits and stamps. What it loses
is put back here: the serializer and compression of the original message, argument texts that the caller chose to hide,
delivery mode, correlation and message id, the parent, and the queue behind RabbitMQ's delayed delivery.
`request.retries` is passed on as it is: waiting is not failing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery, Task, signals
from celery.canvas import Signature
from kombu.serialization import registry

from tasklocks.celery.calls import CONTENT_TYPE, LEASES, OURS
from tasklocks.celery.conf import settings_of
from tasklocks.celery.later import later_queue, staying, stays_until
from tasklocks.celery.marks import limits_of
from tasklocks.celery.routes import delays_natively, home_of, kept_headers
from tasklocks.celery.waited import HEADER, Waited, written

__all__ = ["send_again"]

_KEPT_PROPERTIES = ("correlation_id", "message_id", "delivery_mode")


@signals.task_received.connect(dispatch_uid="tasklocks.message")
def _look_at_message(request: Any = None, **_: Any) -> None:
    """Note the content type for the resend: the pool gets the body already without it."""
    if request is None:
        return
    # Only this process says what leases a task has; a sender could say that it needs none.
    request.request_dict.pop(LEASES, None)
    if request.content_type and limits_of(request.task):
        request.request_dict[CONTENT_TYPE] = request.content_type


def send_again(task: Task, countdown: float, waited: Waited) -> Signature:
    """Publish the running task again, due in `countdown` seconds, and return what was sent.

    Raises:
        Exception: whatever publishing raises; nothing was sent then.
    """
    request = task.request
    natively = delays_natively(task.app)
    options = {
        # Native delayed delivery counts in whole seconds and refuses 0.
        "countdown": max(1, math.ceil(countdown)) if natively else countdown,
        "retries": request.retries,
        "headers": _headers(request, waited),
        "add_to_parent": False,
        **_original_message(request),
    }
    signature = task.signature_from_request(request, **options)
    _restore_route(task.app, signature.options)
    elsewhere = {} if natively else _elsewhere(task.app, countdown, signature.options)
    with _nobodys_child(request):
        signature.apply_async(**elsewhere)
    return signature


def _headers(request: Any, waited: Waited) -> dict[str, Any]:
    kept = {key: value for key, value in kept_headers(request.headers or {}).items() if key not in OURS}
    return {**kept, HEADER: written(waited)}


def _original_message(request: Any) -> dict[str, Any]:
    properties = request.properties or {}
    kept = {key: properties[key] for key in _KEPT_PROPERTIES if properties.get(key) is not None}
    # From what the message said: the class has a default for ignore_result, which Celery keeps itself only since 5.5.
    for key in ("argsrepr", "kwargsrepr", "compression", "ignore_result"):
        if vars(request).get(key) is not None:
            kept[key] = vars(request)[key]
    serializer = registry.type_to_name.get(getattr(request, CONTENT_TYPE, None))
    return {**kept, "serializer": serializer} if serializer else kept


def _restore_route(app: Celery, options: dict[str, Any]) -> None:
    """Name the task's own queue.

    Without it Celery would take the default queue's key for RabbitMQ's delayed delivery; and kombu's virtual transports
    would lose a message to a topic, whose type only a process knows that declared it: a pool child did not.
    """
    options.pop("redelivered", None)
    if options.get("priority", 0) is None:
        del options["priority"]
    exchange, routing_key = str(options.get("exchange") or ""), str(options.get("routing_key") or "")
    home = home_of(app, exchange, routing_key)
    if exchange.startswith("celery_delayed"):
        del options["exchange"], options["routing_key"]
    if home is not None:
        options["queue"] = home


def _elsewhere(app: Celery, countdown: float, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that let a message stay in a later queue, if it is due late enough; else none."""
    home = options.get("queue")
    stay = staying(countdown, settings_of(app).max_countdown)
    if stay is None or home is None or app.amqp.queues[home].exchange.type == "fanout":
        return {}
    queue = later_queue(home, stay)
    headers = {**options["headers"], **stays_until(stay)}
    return {"queue": queue, "exchange": "", "routing_key": queue.name, "headers": headers}


@contextmanager
def _nobodys_child(request: Any) -> Iterator[None]:
    """Keep Celery from making the running task the parent of its own next delivery."""
    request.called_directly = True
    try:
        yield
    finally:
        request.called_directly = False
