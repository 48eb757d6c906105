"""A Redis of a test's own, a backend and a plain client on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tasklocks.backends.redis import RedisBackend
from tests.servers import RedisServer

__all__ = ["backend", "client", "server"]


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    return redis_server


@pytest.fixture
def backend(server: RedisServer) -> Iterator[RedisBackend]:
    connected = RedisBackend(server.url)
    yield connected
    connected.close()


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as plain:
        yield plain
