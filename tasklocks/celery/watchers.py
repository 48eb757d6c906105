"""Metrics and traces of a worker, if its settings ask for them.

What makes them is imported by name, and only then: it stands above this package, and needs what not everybody installs.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from celery import Celery, signals

from tasklocks import logs
from tasklocks.celery.admission.where import forks
from tasklocks.celery.conf import watching_settings_of
from tasklocks.celery.marks import limits_of
from tasklocks.errors import ConfigurationError

__all__ = ["begin"]


def begin(app: Celery, *, shared: bool) -> None:
    """Begin to watch as `app` says.

    Args:
        app: the worker's.
        shared: whether its pool is of processes, so that they must share their numbers.

    Raises:
        ConfigurationError: a setting that cannot work, or a package that is missing.
    """
    settings = watching_settings_of(app)
    if settings.metrics_port is not None:
        exporter = _import(
            "tasklocks.contrib.exporter",
            "tasklocks_metrics_port needs prometheus_client: pip install 'tasklocks[prometheus]'",
        )
        exporter.begin(settings.metrics_host, settings.metrics_port, _templates(app), shared=shared)
    if settings.tracing:
        _import(
            "tasklocks.contrib.otel", "tasklocks_tracing needs OpenTelemetry's API: pip install 'tasklocks[otel]'"
        ).watch()


def _import(name: str, missing: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigurationError(missing) from error


def _templates(app: Celery) -> set[str]:
    return {limit.template or name for name, task in app.tasks.items() for limit in limits_of(task)}


@signals.worker_init.connect(dispatch_uid="tasklocks.watchers")
def _begin(sender: Any = None, **_: Any) -> None:
    try:
        begin(sender.app, shared=forks(sender))
    except ConfigurationError as error:
        # Celery swallows a receiver's exceptions; only an exit stops a worker that nobody could watch.
        raise SystemExit(f"tasklocks: {error}") from error


@signals.worker_ready.connect(dispatch_uid="tasklocks.watchers")
@signals.worker_process_init.connect(dispatch_uid="tasklocks.watchers")
def _follow_logs(**_: Any) -> None:
    logs.follow()
