"""System checks (`manage.py check`): settings of locks that cannot work, or not where they are meant to.

| id | what |
|---|---|
| `tasklocks.E001` | a setting cannot work |
| `tasklocks.E002` | a limit of a task cannot work (with `--deploy`, which imports the apps' `tasks` modules) |
| `tasklocks.W001` | no backend is set: the embedded file serves one host only |
| `tasklocks.W002` | limits are in SQLite, which serves one host only (with `--deploy`) |
| `tasklocks.W003` | limits are in the SQLite file of requests that are transactions, and would lock each other out |
| `tasklocks.W004` | a task may wait for longer than the broker does before it delivers it again (with `--deploy`) |
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from celery import Celery
from django.core import checks
from django.db import connections
from django.utils.module_loading import autodiscover_modules

from tasklocks.backends import Backend, connect
from tasklocks.celery.conf import Settings, settings_of
from tasklocks.celery.marks import limits_of
from tasklocks.celery.spec import LockSpec
from tasklocks.contrib.django.project import celery_app
from tasklocks.errors import ConfigurationError

__all__ = ["register"]

_TAG = "tasklocks"
_HINT = "see docs/configuration.md of tasklocks"
# Brokers that deliver a message again unless it is acknowledged in time, and how long they wait: kombu's defaults.
_IMPATIENT = {"redis": 3600.0, "rediss": 3600.0, "sentinel": 3600.0, "sqs": 1800.0}


def register() -> None:
    """Let Django know the checks."""
    checks.register(_check_settings, _TAG)
    checks.register(_check_hosts, _TAG, deploy=True)
    checks.register(_check_transactions, _TAG)
    checks.register(_check_tasks, _TAG, deploy=True)
    checks.register(_check_waits, _TAG, deploy=True)


def _check_settings(**_: Any) -> list[checks.CheckMessage]:
    try:
        settings = settings_of(celery_app())
        url = _said(settings)
        if url is None:
            return [_NO_BACKEND]
        connect(url, prefix=settings.prefix, options=settings.options)
    except ConfigurationError as error:
        return [checks.Error(str(error), hint=_HINT, id="tasklocks.E001")]
    return []


def _check_tasks(**_: Any) -> list[checks.CheckMessage]:
    app = celery_app()
    if _backend() is None:
        return []
    settings = settings_of(app)
    found = [_mistake(settings, where, spec) for where, spec in _limits(app)]
    return [checks.Error(mistake, hint=_HINT, id="tasklocks.E002") for mistake in found if mistake]


def _mistake(settings: Settings, where: str, spec: Any) -> str:
    try:
        spec.check_on(settings.backend(spec.backend, where), settings.ttl, where)
    except ConfigurationError as error:
        return str(error)
    return ""


def _check_hosts(**_: Any) -> list[checks.CheckMessage]:
    if not _in_sqlite(_backend()):
        return []
    return [
        checks.Warning(
            "limits are kept in SQLite, so processes on other hosts would take the same permits",
            hint="use PostgreSQL (django://), Redis or another server if there is more than one host",
            id="tasklocks.W002",
        )
    ]


def _check_transactions(**_: Any) -> list[checks.CheckMessage]:
    if not _in_sqlite(_backend()) or not _url().startswith("django:"):
        return []
    alias = _url().partition("://")[2].partition("?")[0].rstrip("/") or "default"
    if not connections.settings[alias].get("ATOMIC_REQUESTS"):
        return []
    return [
        checks.Warning(
            f"limits are kept in the SQLite database {alias!r}, which has ATOMIC_REQUESTS: a request that has written "
            "something and then takes a lock waits for itself",
            hint="keep the locks in a file of their own: a second entry in DATABASES, and django://its-name",
            id="tasklocks.W003",
        )
    ]


def _check_waits(**_: Any) -> list[checks.CheckMessage]:
    app = celery_app()
    patience = _patience(app) if app is not None else None
    if app is None or patience is None:
        return []
    return [
        checks.Warning(
            f"{where} may wait for {spec.max_wait:g} s, and the broker delivers it again after {patience:g} s",
            hint="raise visibility_timeout in broker_transport_options above max_wait, or lower max_wait",
            id="tasklocks.W004",
        )
        for where, spec in _limits(app)
        if isinstance(spec, LockSpec) and spec.on_busy in ("retry", "wait") and (spec.max_wait or 0.0) >= patience
    ]


def _limits(app: Celery | None) -> Iterator[tuple[str, Any]]:
    """Yield the limits of the project's tasks, and where they are said."""
    if app is None:
        return
    # Not by Celery's loader: that runs these checks.
    autodiscover_modules("tasks")
    for name, task in app.tasks.items():
        for spec in limits_of(task):
            yield f"task {name}", spec


def _patience(app: Celery) -> float | None:
    """Return after how many seconds the broker delivers again what is not acknowledged; None: never."""
    scheme = (app.conf.broker_read_url or app.conf.broker_url or "").partition("://")[0]
    default = _IMPATIENT.get(scheme)
    said = (app.conf.broker_transport_options or {}).get("visibility_timeout")
    return default if default is None or said is None else float(said)


def _said(settings: Settings) -> str | None:
    return settings.url or os.environ.get("TASKLOCKS_URL")


def _backend() -> Backend | None:
    """Return the project's backend, of which nothing is asked; None if `_check_settings` complains."""
    try:
        settings = settings_of(celery_app())
        return settings.backend(None, "") if _said(settings) else None
    except ConfigurationError:
        return None


def _in_sqlite(backend: Backend | None) -> bool:
    return backend is not None and _url().startswith(("sqlite:", "django:")) and not backend.capabilities.multi_host


def _url() -> str:
    return _said(settings_of(celery_app())) or ""


_NO_BACKEND = checks.Warning(
    "no backend is set, so limits are kept in the file tasklocks.db, which serves one host only",
    hint="set CELERY_TASKLOCKS_URL (django:// keeps them in the project's own database) or TASKLOCKS_URL, and import "
    "the Celery app in the project's __init__.py",
    id="tasklocks.W001",
)
