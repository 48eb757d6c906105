"""What becomes of a message that was held: it goes back, is acknowledged, or its task is seen to its end."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from tasklocks.celery.admission.held import Held

__all__ = ["acknowledge", "follow", "return_to_broker"]

_logger = logging.getLogger("tasklocks")


def return_to_broker(each: Held) -> None:
    """Let the broker deliver the message again, to whomever it likes."""
    each.request.message.reject_log_error(_logger, each.request.connection_errors, requeue=True)


def acknowledge(each: Held) -> None:
    """Let the broker forget the message."""
    each.request.message.ack_log_error(_logger, each.request.connection_errors)


def follow(request: Any, ended: Callable[[], object], failed: Callable[[], object]) -> None:
    """See the end of the task, if its body does not say it.

    Args:
        request: Celery's, about to go to the pool.
        ended: called when there is a result, so the body has ended.
        failed: called when its process is gone, or it took too long: the body may still be running.
    """
    on_success, on_failure = request.on_success, request.on_failure

    @functools.wraps(on_success)
    def succeeds(result: Any, **options: Any) -> None:
        ended()
        on_success(result, **options)

    @functools.wraps(on_failure)
    def fails(*args: Any, **options: Any) -> None:
        failed()
        on_failure(*args, **options)

    request.on_success, request.on_failure = succeeds, fails
