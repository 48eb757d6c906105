"""The project's own Celery app, and the backend that it uses."""

from __future__ import annotations

from celery import Celery

from tasklocks.backends import Backend
from tasklocks.celery.conf import app_in_use
from tasklocks.cli.access import Access

__all__ = ["access", "backend", "celery_app"]


def celery_app() -> Celery | None:
    """Return the project's app; None if it has none, or does not import it in its `__init__.py`."""
    return app_in_use()


def access() -> Access:
    """Return how the commands reach the project's backend."""
    return Access(celery_app())


def backend() -> Backend:
    """Return the project's backend; nothing is contacted yet.

    Raises:
        ConfigurationError: no setting says which, or it cannot work.
    """
    return access().backend()
