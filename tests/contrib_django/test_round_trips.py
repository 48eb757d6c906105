"""What a lease on PostgreSQL costs at the wire, counted as on the other servers."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tasklocks import connect
from tests.contrib_django.conftest import migrated, postgresql_settings
from tests.relay import Relay
from tests.servers_postgresql import new_postgresql_database
from tests.test_round_trips import *  # noqa: F403
from tests.test_round_trips import Wire


@pytest.fixture
def wire(postgresql_url: str) -> Iterator[Wire]:
    """A database that is reached through a relay."""
    its = postgresql_settings(new_postgresql_database(postgresql_url))
    with Relay(urlsplit(postgresql_url).port) as relay:
        alias = migrated(**{**its, "PORT": str(relay.port)})
        backend = connect(f"django://{alias}")
        yield Wire("postgresql", relay, backend)
        backend.close()
