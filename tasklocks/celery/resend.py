"""Sends a task again that found its limit busy: the same task in every respect, only later.

Celery's own `signature_from_request` keeps id, group, chord, chain, callbacks, expiry, limits and stamps. What it loses
is put back here: the serializer and compression of the original message, argument texts that the caller chose to hide,
delivery mode, correlation and message id, the parent, and the queue behind RabbitMQ's delayed delivery.
`request.retries` is passed on as it is: waiting is not failing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery, Task, signals
from celery.canvas import Signature
from kombu.serialization import registry

from tasklocks.celery.calls import CONTENT_TYPE
from tasklocks.celery.marks import limits_of
from tasklocks.celery.waited import HEADER, Waited, written

__all__ = ["send_again"]

_DELAYED = re.compile(r"^(?:[01]\.){28}")
_KEPT_PROPERTIES = ("correlation_id", "message_id", "delivery_mode")


@signals.task_received.connect(dispatch_uid="tasklocks.content_type")
def _keep_content_type(request: Any = None, **_: Any) -> None:
    """Note the content type for the resend: the pool gets the body already without it."""
    if request is not None and request.content_type and limits_of(request.task):
        request.request_dict[CONTENT_TYPE] = request.content_type


def send_again(task: Task, countdown: float, waited: Waited) -> Signature:
    """Publish the running task again, due in `countdown` seconds, and return what was sent.

    Raises:
        Exception: whatever publishing raises; nothing was sent then.
    """
    request = task.request
    options = {
        "countdown": _countdown(task.app, countdown),
        "retries": request.retries,
        "headers": _headers(request, waited),
        "add_to_parent": False,
        **_original_message(request),
    }
    signature = task.signature_from_request(request, **options)
    _restore_route(task.app, signature.options)
    with _nobodys_child(request):
        signature.apply_async()
    return signature


def _headers(request: Any, waited: Waited) -> dict[str, Any]:
    # x-death and its kin were added by RabbitMQ; sent again they look like a routing loop, and the message vanishes.
    kept = {
        key: value
        for key, value in (request.headers or {}).items()
        if key != CONTENT_TYPE and not key.startswith(("x-death", "x-first-death", "x-last-death"))
    }
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
    if exchange.startswith("celery_delayed"):
        del options["exchange"], options["routing_key"]
        routing_key = _DELAYED.sub("", routing_key)
        found = [name for name, queue in app.amqp.queues.items() if queue.routing_key == routing_key]
    else:
        found = [name for name, queue in app.amqp.queues.items() if _leads_to(queue, exchange, routing_key)]
    if found:
        options["queue"] = found[0]


def _leads_to(queue: Any, exchange: str, routing_key: str) -> bool:
    if not exchange or queue.exchange is None or queue.exchange.name != exchange:
        return False
    if queue.exchange.type == "fanout" or queue.routing_key == routing_key:
        return True
    words = ({"*": r"[^.]+", "#": r".*"}.get(word, re.escape(word)) for word in (queue.routing_key or "").split("."))
    return queue.exchange.type == "topic" and bool(re.fullmatch(r"\.".join(words), routing_key))


def _countdown(app: Celery, countdown: float) -> float:
    # Native delayed delivery counts in whole seconds and refuses 0.
    return max(1, math.ceil(countdown)) if _delays_natively(app) else countdown


def _delays_natively(app: Celery) -> bool:
    quorum = any((queue.queue_arguments or {}).get("x-queue-type") == "quorum" for queue in app.amqp.queues.values())
    return quorum and app.connection_for_write().transport.driver_type == "amqp"


@contextmanager
def _nobodys_child(request: Any) -> Iterator[None]:
    """Keep Celery from making the running task the parent of its own next delivery."""
    request.called_directly = True
    try:
        yield
    finally:
        request.called_directly = False
