"""What a worker checks before it takes work: that every limit of its tasks can work on its backend."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from celery import Celery, signals

from tasklocks.backends import Backend
from tasklocks.celery.conf import settings_of
from tasklocks.celery.marks import Limit, limits_of
from tasklocks.errors import BackendUnavailable, ConfigurationError

__all__ = ["check_app"]

_PROBE = "tasklocks-start"

_logger = logging.getLogger("tasklocks")


def check_app(app: Celery) -> None:
    """Check the limits of all tasks of `app`, and ask each backend once.

    A backend that does not answer yet is no reason not to start: tasks wait for it.

    Raises:
        ConfigurationError: a limit that cannot work, with the task's name, or a backend that refuses its credentials.
    """
    settings = settings_of(app)
    users: dict[Backend, str] = {}
    for where, spec in _limits(app):
        backend = settings.backend(spec.backend, where)
        spec.check_on(backend, settings.ttl, where)
        users.setdefault(backend, f"{where}: {settings.setting(spec.backend)}")
    for backend, where in users.items():
        _probe(backend, where)


def _limits(app: Celery) -> Iterator[tuple[str, Limit]]:
    for name, task in app.tasks.items():
        for spec in limits_of(task):
            yield f"task {name}", spec


def _probe(backend: Backend, where: str) -> None:
    try:
        backend.inspect(_PROBE)
    except ConfigurationError as error:
        # First, for a refusal is a kind of both, and nobody's waiting ends it.
        raise ConfigurationError(f"{where}: {error}") from error
    except BackendUnavailable as down:
        _logger.warning("limited tasks wait until their backend answers: %s", down)
    finally:
        # The pool's children are forked from here; they make connections of their own.
        backend.close()


@signals.worker_init.connect(dispatch_uid="tasklocks.control")
def _offer_inspection(**_: Any) -> None:
    # Only where a worker is: Celery's remote control is a part of it.
    from tasklocks.celery import control  # noqa: F401


@signals.worker_init.connect(dispatch_uid="tasklocks.check")
def _check_worker(sender: Any = None, **_: Any) -> None:
    try:
        check_app(sender.app)
    except ConfigurationError as error:
        # Celery swallows a receiver's exceptions; only an exit stops a worker that would fail at night.
        raise SystemExit(f"tasklocks: {error}") from error
