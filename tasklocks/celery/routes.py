"""Which queue a message came from, and what of its headers it takes along when it is sent again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from celery import Celery
from kombu.entity import Queue

__all__ = ["delays_natively", "home_of", "kept_headers"]

_DELAYED = re.compile(r"^(?:[01]\.){28}")


def home_of(app: Celery, exchange: str, routing_key: str) -> str | None:
    """Return the name of the queue that a message with this route came from; None: nobody knows."""
    queues: Mapping[str, Queue] = app.amqp.queues
    if exchange.startswith("celery_delayed"):
        # RabbitMQ's native delayed delivery puts its own route in front.
        routing_key = _DELAYED.sub("", routing_key)
        return next((name for name, queue in queues.items() if queue.routing_key == routing_key), None)
    if not exchange:
        return routing_key if routing_key in queues else None
    return next((name for name, queue in queues.items() if _leads_to(queue, exchange, routing_key)), None)


def kept_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers without those that the broker or kombu added."""
    # RabbitMQ takes the first ones, sent again, for a routing loop, and the message vanishes.
    added = ("x-death", "x-first-death", "x-last-death")
    return {key: value for key, value in headers.items() if not key.startswith(added) and key != "redelivered"}


def delays_natively(app: Celery) -> bool:
    """Tell whether Celery leaves a countdown to RabbitMQ's native delayed delivery."""
    quorum = any((queue.queue_arguments or {}).get("x-queue-type") == "quorum" for queue in app.amqp.queues.values())
    return quorum and app.connection_for_write().transport.driver_type == "amqp"


def _leads_to(queue: Queue, exchange: str, routing_key: str) -> bool:
    if queue.exchange is None or queue.exchange.name != exchange:
        return False
    if queue.exchange.type == "fanout" or queue.routing_key == routing_key:
        return True
    words = ({"*": r"[^.]+", "#": r".*"}.get(word, re.escape(word)) for word in (queue.routing_key or "").split("."))
    return queue.exchange.type == "topic" and bool(re.fullmatch(r"\.".join(words), routing_key))
