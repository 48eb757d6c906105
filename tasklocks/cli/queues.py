"""A look for one task into a broker: queues, those in which tasks stay that are due later, and what workers fetched.

Only Redis lets anybody look without taking: its queues are lists. Nothing is moved, and a few hundred messages are read
at a time, so that workers get theirs meanwhile. Of others no more is known than how many messages each queue has.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from celery import Celery
from celery.utils.time import maybe_iso8601
from kombu.connection import Connection

from tasklocks.celery.later import STAYS, later_queue
from tasklocks.celery.waited import read

__all__ = ["Queued", "find_queued", "queue_sizes"]

_PAGE = 200
_MOST = 20_000  # messages of one queue that are looked at


@dataclass(frozen=True, slots=True)
class Queued:
    """A message in a queue.

    Attributes:
        queue: which one.
        ahead: how many are in front of it.
        stays: it is one of those in which messages stay that are due later.
        task: the task's name.
        id: the task's id.
        eta: when it is due, in seconds since the epoch; None: at once.
        slots: starts that it has reserved: name, start and when it was reserved, on the backend's clock.
        again: a worker has fetched it; when the broker delivers it again, in seconds since the epoch. None: no one has.
    """

    queue: str
    ahead: int
    stays: bool
    task: str
    id: str
    eta: float | None
    slots: list[list[Any]]
    again: float | None = None


def find_queued(app: Celery, connection: Connection, task_id: str) -> Iterator[Queued]:
    """Yield the messages of a task (its id, or the beginning of it) in the queues that the app's workers consume."""
    if connection.transport.driver_type != "redis":
        return
    channel = connection.default_channel
    for home in list(app.amqp.queues):
        for queue in (home, *(later_queue(home, stay).name for stay in STAYS)):
            for ahead, headers in enumerate(_headers(channel, queue)):
                if _is_of(headers, task_id):
                    yield _queued(queue, ahead, queue != home, headers)
    for headers, again in _fetched(channel):
        if _is_of(headers, task_id):
            yield dataclasses.replace(_queued("", 0, False, headers), again=again)


def _is_of(headers: dict[str, Any], task_id: str) -> bool:
    return str(headers.get("id", "")).startswith(task_id)


def queue_sizes(app: Celery, connection: Connection) -> dict[str, int]:
    """Return how many messages the queues have that the app's workers consume, and those beside them; no empty ones."""
    homes = list(app.amqp.queues)
    names = [*homes, *(later_queue(home, stay).name for home in homes for stay in STAYS)]
    sizes = {name: _size(connection, name) for name in names}
    return {name: size for name, size in sizes.items() if size}


def _size(connection: Connection, queue: str) -> int:
    # A channel of its own each: asked for a queue that is not there, RabbitMQ closes it.
    with connection.channel() as channel:
        try:
            return int(channel.queue_declare(queue=queue, passive=True).message_count)
        except connection.channel_errors:
            return 0


def _client(channel: Any) -> Any:
    from redis import Redis

    # Not kombu's client, which knows of some commands only that their keys have a prefix.
    return Redis(connection_pool=channel.client.connection_pool)


def _headers(channel: Any, queue: str) -> Iterator[dict[str, Any]]:
    """Yield the headers of a queue's messages, the next one to be fetched first."""
    client = _client(channel)
    # The first priority is the most urgent one; each has a list of its own.
    for step in channel.priority_steps:
        key = f"{channel.global_keyprefix}{channel._q_for_pri(queue, step)}"
        for last in range(-1, -_MOST, -_PAGE):
            texts = client.lrange(key, last - _PAGE + 1, last)
            yield from (_of_message(_parsed(text)) for text in reversed(texts))
            if len(texts) < _PAGE:
                break


def _fetched(channel: Any) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield the headers of messages that workers have fetched, and when the broker delivers each of them again."""
    client = _client(channel)
    prefix, patience = channel.global_keyprefix, float(channel.visibility_timeout)
    for tag, text in client.hscan_iter(f"{prefix}{channel.unacked_key}", count=_PAGE):
        # Message, exchange and routing key.
        parts = _parsed(text)
        fetched = client.zscore(f"{prefix}{channel.unacked_index_key}", tag) if isinstance(parts, list) else None
        if fetched is not None:
            yield _of_message(parts[0]), fetched + patience


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _of_message(message: Any) -> dict[str, Any]:
    headers = message.get("headers") if isinstance(message, dict) else None
    return headers if isinstance(headers, dict) else {}


def _queued(queue: str, ahead: int, stays: bool, headers: dict[str, Any]) -> Queued:
    slots = [[slot.name, slot.start, slot.made] for slot in read(headers).slots]
    eta = headers.get("eta")
    due = maybe_iso8601(eta).timestamp() if eta else None
    return Queued(queue, ahead, stays, str(headers.get("task", "")), str(headers.get("id", "")), due, slots)
