"""What happens to MongoDB only: a primary that steps down, and a server without a replica set."""

from __future__ import annotations

import pytest

from tasklocks.backends.mongodb import MongoBackend
from tests.conftest import require
from tests.faults.hammered import hammered
from tests.line import NAME, taken
from tests.servers_mongodb import MongoServer, StandaloneMongoServer

pytestmark = pytest.mark.parametrize("kind", ["mongodb"], indirect=True)


def test_nobody_overlaps_when_the_primary_steps_down(store, trio, tmp_path):
    hammered(trio.url, store.ttl, tmp_path, trio.step_down)


@pytest.mark.parametrize("alone", [MongoServer, StandaloneMongoServer])
def test_what_was_granted_just_before_the_server_was_killed_is_still_granted(kind, tmp_path, alone):
    require(alone)
    with alone(tmp_path / "mongodb") as server:
        backend = MongoBackend(server.url)
        tokens = []
        for turn in range(3):
            tokens.append(taken(backend, f"o{turn}", capacity=9).fencing_token)
            server.kill()
            server.start()
        assert [each.fencing_token for each in backend.inspect(NAME).holders] == tokens
        backend.close()
