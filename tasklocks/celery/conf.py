"""The settings of an app, read as ordinary lower-case Celery settings (`CELERY_TASKLOCKS_URL` in Django)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery import Celery, _state

from tasklocks.backends import DEFAULT_PREFIX, Backend, connect
from tasklocks.backoff import Countdown, check_countdown
from tasklocks.celery.later import SHORTEST_BOUND
from tasklocks.durations import seconds
from tasklocks.errors import ConfigurationError
from tasklocks.names import check_name

__all__ = [
    "DEFAULT_TTL",
    "AdmissionSettings",
    "BeatSettings",
    "Settings",
    "WatchingSettings",
    "admission_settings_of",
    "app_in_use",
    "beat_settings_of",
    "settings_of",
    "watching_settings_of",
]

DEFAULT_TTL = 30.0
"""Seconds that a lease lasts without renewal, unless set."""

DEFAULT_MAX_COUNTDOWN = 30.0
"""Seconds; a task that waits longer stays in a queue of its own meanwhile, unless set."""

_DEFAULT_SCHEDULER = "celery.beat:PersistentScheduler"
_DEFAULT_BEAT_NAME = "celery-beat"
_DEFAULT_BEAT_TTL = 10.0
_DEFAULT_MAX_HELD = 1000
_LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Settings:
    """What an app says about its locks.

    Attributes:
        url: `tasklocks_url`; None: the environment's, then the embedded default.
        prefix: `tasklocks_prefix`; what every key starts with.
        ttl: `tasklocks_ttl`, in seconds; for tasks that do not say their own.
        countdown: `tasklocks_countdown`; for tasks that do not say their own. None: adaptive.
        max_countdown: `tasklocks_max_countdown`, in seconds; what waits longer is not held by a worker.
        options: `tasklocks_backend_options`; the client's own options.
    """

    url: str | None = None
    prefix: str = DEFAULT_PREFIX
    ttl: float = DEFAULT_TTL
    countdown: Countdown | None = None
    max_countdown: float = DEFAULT_MAX_COUNTDOWN
    options: Mapping[str, Any] | None = None

    def backend(self, own: str | Backend | None, where: str) -> Backend:
        """Return the backend that a limit says itself, or the app's.

        Args:
            own: what the limit says.
            where: the task, for errors.

        Raises:
            ConfigurationError: there is no such backend; the message names the task and the setting.
        """
        if own is not None and not isinstance(own, str):
            return own
        try:
            return connect(own or self.url, prefix=self.prefix, options=self.options if own is None else None)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {self.setting(own)}: {error}") from error

    def setting(self, own: str | Backend | None) -> str:
        """Return the name of the setting that says which backend a limit uses."""
        if own is not None:
            return "backend"
        return "TASKLOCKS_URL" if self.url is None else "tasklocks_url"


def settings_of(app: Celery | None) -> Settings:
    """Return the settings of `app`; of no app: the defaults."""
    if app is None:
        return Settings()
    conf = app.conf
    return Settings(
        url=conf.get("tasklocks_url"),
        prefix=check_name(_said(conf.get("tasklocks_prefix"), DEFAULT_PREFIX), where="tasklocks_prefix"),
        ttl=seconds(_said(conf.get("tasklocks_ttl"), DEFAULT_TTL), setting="tasklocks_ttl", exclusive=True),
        countdown=check_countdown(conf.get("tasklocks_countdown"), "tasklocks_countdown"),
        max_countdown=seconds(
            _said(conf.get("tasklocks_max_countdown"), DEFAULT_MAX_COUNTDOWN),
            setting="tasklocks_max_countdown",
            minimum=SHORTEST_BOUND,
        ),
        options=_options(conf.get("tasklocks_backend_options")),
    )


@dataclass(frozen=True, slots=True)
class BeatSettings:
    """What an app says about its beats.

    Attributes:
        scheduler: `tasklocks_beat_scheduler`; the scheduler that the leading beat runs, or where it is.
        name: `tasklocks_beat_name`; beats of one name run one schedule.
        ttl: `tasklocks_beat_ttl`, in seconds; after which a beat that is gone is replaced.
    """

    scheduler: str | type
    name: str
    ttl: float


def beat_settings_of(app: Celery) -> BeatSettings:
    """Return what `app` says about its beats."""
    conf = app.conf
    return BeatSettings(
        scheduler=_said(conf.get("tasklocks_beat_scheduler"), _DEFAULT_SCHEDULER),
        name=check_name(_said(conf.get("tasklocks_beat_name"), _DEFAULT_BEAT_NAME), where="tasklocks_beat_name"),
        ttl=seconds(
            _said(conf.get("tasklocks_beat_ttl"), _DEFAULT_BEAT_TTL), setting="tasklocks_beat_ttl", exclusive=True
        ),
    )


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """What an app says about messages that wait in its workers.

    Attributes:
        on: `tasklocks_admission`; False: leases are taken in the tasks' bodies, as where it cannot work.
        most: `tasklocks_max_held`; how many messages one worker holds.
    """

    on: bool
    most: int


def admission_settings_of(app: Celery) -> AdmissionSettings:
    """Return what `app` says about messages that wait in its workers."""
    most = _said(app.conf.get("tasklocks_max_held"), _DEFAULT_MAX_HELD)
    if isinstance(most, bool) or not isinstance(most, int) or most < 0:
        raise ConfigurationError(f"tasklocks_max_held must be a whole number of messages, not {most!r}")
    return AdmissionSettings(on=bool(_said(app.conf.get("tasklocks_admission"), True)), most=most)


@dataclass(frozen=True, slots=True)
class WatchingSettings:
    """What an app says about those who watch its workers.

    Attributes:
        metrics_host: `tasklocks_metrics_host`; where a worker serves its metrics.
        metrics_port: `tasklocks_metrics_port`; None: nowhere. 0: any port, it stands in the log.
        tracing: `tasklocks_tracing`; whether waits and holds are OpenTelemetry spans.
    """

    metrics_host: str
    metrics_port: int | None
    tracing: bool


def watching_settings_of(app: Celery) -> WatchingSettings:
    """Return what `app` says about those who watch its workers."""
    conf = app.conf
    port = conf.get("tasklocks_metrics_port")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= _LAST_PORT):
        raise ConfigurationError(f"tasklocks_metrics_port must be a port, a whole number to {_LAST_PORT}, not {port!r}")
    return WatchingSettings(
        metrics_host=_said(conf.get("tasklocks_metrics_host"), "127.0.0.1"),
        metrics_port=port,
        tracing=bool(_said(conf.get("tasklocks_tracing"), False)),
    )


def app_in_use() -> Celery | None:
    """Return the app that is current here, or None; asking Celery itself would make a default app."""
    task = _state.get_current_task()
    if task is not None:
        return task.app
    return _state._tls.current_app or _state.default_app or _only_app()


def _only_app() -> Celery | None:
    # "Current" is per thread in Celery. A thread of a web server must not lock elsewhere than the process's one app.
    apps = list(_state._get_active_apps())
    return apps[0] if len(apps) == 1 else None


def _options(value: Any) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, Mapping):
        raise ConfigurationError(f"tasklocks_backend_options must be a dict, not {type(value).__name__}")
    return value


def _said(value: Any, default: Any) -> Any:
    return default if value is None else value
