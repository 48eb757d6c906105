"""Where a task stays that is due much later: in queues of the broker beside its own, not in the memory of a worker.

A worker holds a message with an ETA unacknowledged in its memory, ten thousand of them as well as one; and a broker
that hears nothing of a message for long delivers it again (Redis), or ends the connection (RabbitMQ). So a task that
waits longer than `tasklocks_max_countdown` goes to a queue of its queue's own, where every message stays equally long:
there the first in is the first that is due, and one look at the head says when to look again. The workers of the task's
queue fetch from there (see `tasklocks.celery.fetch`). On its way a message is in both for a moment, never in none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from celery.utils.time import maybe_iso8601
from kombu.entity import Queue
from kombu.message import Message
from kombu.messaging import Producer

from tasklocks.celery.routes import kept_headers

__all__ = ["SHORTEST_BOUND", "STAYS", "UNTIL", "due_in", "forward", "later_queue", "staying", "stays_until"]

STAYS = (10.0, 40.0, 160.0, 640.0)
"""For how many seconds a message stays in each of a queue's later queues."""

UNTIL = "tasklocks_until"
"""The header that says until when (seconds since the epoch) a message stays where it is."""

_LEAD = 5.0  # seconds for fetching it back, and for the clocks of two hosts
SHORTEST_BOUND = STAYS[0] + _LEAD
"""Seconds; the shortest wait that can be spent elsewhere."""

_PUBLISHING = {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 1.0}
# What a broker or kombu adds to a message, or what is given to `publish` in another way.
_NOT_PASSED = {"application_headers", "headers", "content_type", "content_encoding", "body_encoding", "expiration"}
_NOT_PASSED |= {"delivery_info", "delivery_tag"}


def staying(wait: float, bound: float) -> float | None:
    """Return for how long a task that is due in `wait` seconds stays in a later queue; None: in none.

    Args:
        wait: seconds.
        bound: what a worker holds itself, in seconds.
    """
    if wait <= bound:
        return None
    return max((stay for stay in STAYS if stay <= wait - _LEAD), default=None)


def later_queue(home: str, stay: float) -> Queue:
    """Return the queue in which messages of the queue `home` stay for so many seconds."""
    name = f"{home}.tasklocks-later-{stay:g}s"
    return Queue(name, routing_key=name, durable=True)


def stays_until(stay: float) -> dict[str, float]:
    """Return the headers of a message that is put into a later queue now."""
    return {UNTIL: time.time() + stay}


def due_in(headers: Mapping[str, Any]) -> float:
    """Return the seconds until a message's ETA; 0.0: it has none."""
    eta = headers.get("eta")
    return maybe_iso8601(eta).timestamp() - time.time() if eta else 0.0


def forward(producer: Producer, message: Message, headers: Mapping[str, Any], home: str, bound: float) -> None:
    """Publish a message once more, the same but for its headers: to the queue `home`, or where it is to stay meanwhile.

    Raises:
        Exception: whatever publishing raises; it is not certain then that nothing was sent.
    """
    headers = {key: value for key, value in kept_headers(headers).items() if key != UNTIL}
    stay = staying(due_in(headers), bound)
    queue = None if stay is None else later_queue(home, stay)
    if stay is not None:
        headers |= stays_until(stay)
    expiration = message.properties.get("expiration")
    producer.publish(
        message.body,
        exchange="",
        routing_key=home if queue is None else queue.name,
        declare=[] if queue is None else [queue],
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        compression=headers.pop("compression", None),
        headers=headers,
        expiration=None if expiration is None else float(expiration) / 1000,
        retry=True,
        retry_policy=_PUBLISHING,
        **{key: value for key, value in message.properties.items() if key not in _NOT_PASSED and value is not None},
    )
