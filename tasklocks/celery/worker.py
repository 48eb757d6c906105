"""What a worker checks before it takes work: that every limit of its tasks can work on its backend."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from celery import Celery, signals

from tasklocks.backends import Backend
from tasklocks.celery.conf import settings_of
from tasklocks.celery.marks import limits_of
from tasklocks.errors import BackendUnavailable, ConfigurationError
from tasklocks.semaphore import check_ttl

__all__ = ["check_app"]

_PROBE = "tasklocks-start"

_logger = logging.getLogger("tasklocks")


def check_app(app: Celery) -> None:
    """Check the limits of all tasks of `app`, and ask each backend once.

    A backend that does not answer yet is no reason not to start: tasks wait for it.

    Raises:
        ConfigurationError: a limit that cannot work, with the task's name, or a backend that refuses its credentials.
    """
    for backend in set(_checked_backends(app)):
        _probe(backend)


def _checked_backends(app: Celery) -> Iterator[Backend]:
    """Yield the backend of each limit, once its ttl is checked against it."""
    settings = settings_of(app)
    for name, task in app.tasks.items():
        for spec in limits_of(task):
            backend = settings.backend(spec.backend)
            check_ttl(settings.ttl if spec.ttl is None else spec.ttl, backend, f"task {name}")
            yield backend


def _probe(backend: Backend) -> None:
    try:
        backend.inspect(_PROBE)
    except BackendUnavailable as down:
        _logger.warning("limited tasks wait until their backend answers: %s", down)
    finally:
        # The pool's children are forked from here; they make connections of their own.
        backend.close()


@signals.worker_init.connect(dispatch_uid="tasklocks.check")
def _check_worker(sender: Any = None, **_: Any) -> None:
    try:
        check_app(sender.app)
    except ConfigurationError as error:
        # Celery swallows a receiver's exceptions; only an exit stops a worker that would fail at night.
        raise SystemExit(f"tasklocks: {error}") from error
