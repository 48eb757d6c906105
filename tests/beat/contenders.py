"""Beats that can run on many hosts: ours and others', with the settings that their own pages name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.beat.beats import APP, LEADS, STANDS_BY

DJANGO_APP = "tests.apps.beat_django"


@dataclass(frozen=True)
class Contender:
    """One scheduler with one choice of settings.

    Attributes:
        name: its package.
        settings: `default`, or what was set.
        scheduler: its class.
        leads: what its log says when it begins to lead.
        waits: what its log says when it is ready to take over.
        patience: seconds after which a takeover is not waited for any longer.
        conf: Celery settings; `{locks}` stands for the URL of the server that elects.
        app: the app that it schedules.
        times: how often it is ended in each way.
        ids_name_ticks: whether a task id stands for an entry and its due time; else what comes too early counts.
    """

    name: str
    settings: str
    scheduler: str
    leads: str
    waits: str
    patience: float
    conf: Mapping[str, Any]
    app: str = APP
    times: Mapping[str, int] = field(default_factory=dict)
    ids_name_ticks: bool = False

    def conf_for(self, locks: str) -> dict[str, Any]:
        return {key: locks if value == "{locks}" else value for key, value in self.conf.items()}


def ours(ttl: float, times: int) -> Contender:
    """Our own, with the default ttl if it is 10 s."""
    return Contender(
        "tasklocks",
        f"ttl {ttl:g} s",
        "tasklocks.beat:LeaderScheduler",
        LEADS,
        STANDS_BY,
        patience=3 * ttl,
        conf={"tasklocks_beat_ttl": ttl},
        times={"SIGTERM": times, "SIGKILL": times, "SIGSTOP": times, "restart": (times + 1) // 2},
        ids_name_ticks=True,
    )


_FEW = {"SIGTERM": 5, "SIGKILL": 5, "SIGSTOP": 5, "restart": 5}
_FEWER = {"SIGTERM": 3, "SIGKILL": 3, "SIGSTOP": 3, "restart": 3}

_REDBEAT = {
    "scheduler": "redbeat.RedBeatScheduler",
    "leads": "beat: Acquired lock",
    "waits": "beat: Starting...",
}
_LEASED = {
    "scheduler": "celery_leased_beat.django.LeasedDjangoScheduler",
    "leads": "Becoming leader",
    "waits": "beat: Starting...",
    "app": DJANGO_APP,
}
_MULTIBEAT = {
    "scheduler": "multibeat.django.MultiBeatDatabaseScheduler",
    "leads": "multibeat: ACTIVE - Lock",
    "waits": "multibeat: STANDBY",
    "app": DJANGO_APP,
}

PEERS = [
    # On the same footing as the two of them that use Django's tables.
    Contender(
        "tasklocks",
        "ttl 10 s, django",
        "tasklocks.beat:LeaderScheduler",
        LEADS,
        STANDS_BY,
        patience=30,
        conf={"tasklocks_beat_ttl": 10.0, "tasklocks_beat_scheduler": "django"},
        app=DJANGO_APP,
        times=_FEW,
        ids_name_ticks=True,
    ),
    Contender(
        "celery-redbeat",
        "default",
        patience=1900,
        conf={"redbeat_redis_url": "{locks}"},
        # The lock lasts 25 minutes, and is looked at every 5.
        times={"SIGTERM": 2, "SIGKILL": 1, "SIGSTOP": 1, "restart": 3},
        **_REDBEAT,
    ),
    Contender(
        "celery-redbeat",
        "lock 10 s, loop 2 s",
        patience=30,
        conf={"redbeat_redis_url": "{locks}", "redbeat_lock_timeout": 10, "beat_max_loop_interval": 2},
        times=_FEW,
        **_REDBEAT,
    ),
    Contender(
        "celery-leased-beat",
        "default",
        patience=120,
        conf={"CELERY_LEASE_URL": "{locks}"},
        times=_FEWER,
        **_LEASED,
    ),
    Contender(
        "celery-leased-beat",
        "lock 10 s, interval 2 s",
        patience=30,
        conf={"CELERY_LEASE_URL": "{locks}", "CELERY_LEASE_LOCK_TTL": 10, "CELERY_LEASE_INTERVAL": 2},
        times=_FEW,
        **_LEASED,
    ),
    Contender(
        "celery-multibeat-scheduler",
        "default",
        patience=180,
        conf={"multibeat_url": "{locks}"},
        times=_FEWER,
        **_MULTIBEAT,
    ),
    Contender(
        "celery-multibeat-scheduler",
        "lock 10 s, standby 2 s",
        patience=30,
        conf={
            "multibeat_url": "{locks}",
            "multibeat_lock_timeout": 10,
            "multibeat_min_refresh_seconds": 3.0,
            "multibeat_refresh_ratio": 0.3,
            "multibeat_min_standby_seconds": 2.0,
            "multibeat_standby_ratio": 0.2,
        },
        times=_FEW,
        **_MULTIBEAT,
    ),
]
