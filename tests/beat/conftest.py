"""Locks of each kind for beats in processes; the broker is a Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.beat.beats import Field, schedule

# One in `make test`, all of them in the soak.
_OTHERS = ["sqlite", "mongodb", "etcd", "zookeeper"]
LOCKS = ["redis", *(pytest.param(kind, marks=pytest.mark.soak) for kind in _OTHERS)]


@pytest.fixture(params=LOCKS)
def locks(request: pytest.FixtureRequest, new_backend_url: Callable[[str], str]) -> str:
    """The URL of an empty backend, of each kind in turn."""
    return new_backend_url(request.param)


@pytest.fixture
def field_of(tmp_path: Path, redis_database: str) -> Callable[..., AbstractContextManager[Field]]:
    """Return a function that prepares a schedule: `with field_of(locks, {"fast": {"every": 1}}) as field`."""
    return lambda locks, entries, **conf: schedule(
        tmp_path, locks=locks, broker=redis_database, entries=entries, **conf
    )


@pytest.fixture
def field(locks: str, field_of: Callable[..., AbstractContextManager[Field]]) -> Iterator[Field]:
    """A schedule of two intervals and a crontab."""
    entries = {"second": {"every": 1.0}, "quick": {"every": 0.5}, "minute": {"cron": "* * * * *"}}
    with field_of(locks, entries) as made:
        yield made
