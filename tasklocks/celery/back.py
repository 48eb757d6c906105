"""Puts a message that has just arrived back into the broker, due later, in the same words but for a header of ours."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from celery import Celery

from tasklocks.celery.later import forward
from tasklocks.celery.routes import home_of
from tasklocks.celery.waited import HEADER

__all__ = ["put_back"]

_logger = logging.getLogger("tasklocks")


def put_back(app: Celery, request: Any, said: Mapping[str, Any], wait: float, bound: float) -> bool:
    """Publish the message once more; the caller acknowledges it then. Called on a thread.

    Args:
        app: whose broker it is.
        request: Celery's, of the message.
        said: what its header says from now on, see `waited.written`.
        wait: seconds until it is due.
        bound: what is due later than that, in seconds, stays in a later queue meanwhile.

    Returns:
        False: it cannot go there; it has to stay.
    """
    home = home_of(app, request.delivery_info["exchange"] or "", request.delivery_info["routing_key"] or "")
    if home is None or app.amqp.queues[home].exchange.type == "fanout":
        return False
    due = datetime.now(timezone.utc) + timedelta(seconds=wait)
    headers = {**request.message.headers, HEADER: said, "eta": due.isoformat()}
    try:
        with app.producer_or_acquire() as producer:
            forward(producer, request.message, headers, home, bound)
    except Exception as error:  # noqa: BLE001 - kombu's transports have errors of their own, each others
        _logger.warning("%s is held here, it could not be sent back: %s", request.id, error)
        return False
    return True
