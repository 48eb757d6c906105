"""What a worker checks before it takes work: that every limit of its tasks can work on the app's backend."""

from __future__ import annotations

from typing import Any

from celery import Celery, signals

from tasklocks.celery.conf import settings_of
from tasklocks.celery.marks import limits_of
from tasklocks.errors import ConfigurationError
from tasklocks.semaphore import check_ttl

__all__ = ["check_app"]


def check_app(app: Celery) -> None:
    """Check the limits of all tasks of `app` against its settings; contacts nothing.

    Raises:
        ConfigurationError: a limit that cannot work, with the task's name.
    """
    settings = settings_of(app)
    for name, task in app.tasks.items():
        for spec in limits_of(task):
            ttl = settings.ttl if spec.ttl is None else spec.ttl
            check_ttl(ttl, settings.backend(spec.backend), f"task {name}")


@signals.worker_init.connect(dispatch_uid="tasklocks.check")
def _check_worker(sender: Any = None, **_: Any) -> None:
    try:
        check_app(sender.app)
    except ConfigurationError as error:
        # Celery swallows a receiver's exceptions; only an exit stops a worker that would fail at night.
        raise SystemExit(f"tasklocks: {error}") from error
