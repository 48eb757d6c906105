"""`django://` keeps what every backend promises, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasklocks.testing.fixtures import Restartable
from tests.conftest import require
from tests.contrib_django.conftest import migrated, postgresql_settings
from tests.contrib_django.suite import *  # noqa: F403
from tests.servers_postgresql import PostgresServer


@pytest.fixture
def database(new_database: Callable[[str], str]) -> str:
    return new_database("postgresql")


@pytest.fixture
def restartable(tmp_path: Path) -> Iterator[Restartable]:
    require(PostgresServer)
    with PostgresServer(tmp_path / "server") as server:
        yield Restartable(f"django://{migrated(**postgresql_settings(server.url))}", server.restart)
