"""Celery apps for the tests. Each module has one `app`; `make_app` gives it the settings of the environment."""

from __future__ import annotations

import json
import os

from celery import Celery

import tests.folder  # noqa: F401 - a kind of broker

__all__ = ["make_app"]


def make_app(name: str) -> Celery:
    """Return an app that is configured by the variables that `tests.workers.settings` writes."""
    app = Celery(name, set_as_current=True)
    app.conf.update(
        broker_url=os.environ["BROKER_URL"],
        result_backend=os.environ["RESULT_BACKEND"],
        task_default_queue=os.environ["TEST_QUEUE"],
        broker_connection_retry_on_startup=True,
        result_expires=600,
        task_send_sent_event=False,
        worker_hijack_root_logger=True,
    )
    if os.environ.get("TASKLOCKS_URL"):
        app.conf.tasklocks_url = os.environ["TASKLOCKS_URL"]
    # Most tests are about the lease that the body takes; those of admission turn it on.
    app.conf.tasklocks_admission = os.environ.get("TEST_ADMISSION") == "1"
    app.conf.update(json.loads(os.environ.get("TEST_CELERY_CONF", "{}")))
    return app
