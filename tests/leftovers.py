"""What is in a backend's store and will never be removed by itself, counted from outside of the backend."""

from __future__ import annotations

import base64
import http.client
import json
import os
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tasklocks import clock, connect
from tasklocks.backends import Backend
from tasklocks.backends.base import RETENTION
from tests.databases import opened
from tests.line import free
from tests.servers_zookeeper import ZooKeeperServer

__all__ = ["TidyZooKeeperServer", "counter"]

A_WHILE = 3 * RETENTION
FEW = 5
# Seconds after which ZooKeeper has certainly looked for empty containers once more; one of our own looks every second.
_TIDIED = 70.0 if "TASKLOCKS_TEST_ZOOKEEPER_URL" in os.environ else 4.0


class TidyZooKeeperServer(ZooKeeperServer):
    """Looks for what may go every second instead of every minute."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, idle_check=1.0)


def counter(kind: str, url: str, patch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that counts for the backend at `url`."""
    counters = {
        "memory": lambda: _after_a_while(url, patch, _in_memory),
        "sqlite": lambda: _after_a_while(url, patch, lambda _: _in_sqlite(url)),
        "redis": lambda: _in_redis(url),
        "mongodb": lambda: _in_mongodb(url),
        "etcd": lambda: _in_etcd(url),
        "zookeeper": lambda: _in_zookeeper(url),
    }
    return counters[kind]


def _after_a_while(url: str, patch: pytest.MonkeyPatch, count: Callable[[Backend], int]) -> int:
    """Embedded ones tidy up in passing: count what is left when some other limit was used for some time, later."""
    backend, now = connect(url), clock.now
    patch.setattr(clock, "now", lambda: now() + A_WHILE)
    for _ in repeat(None, 100):
        for _ in repeat(None, 500):
            free(backend)
        if count(backend) <= FEW:
            break
    return count(backend)


def _in_memory(backend: Backend) -> int:
    return len(backend._store().limits)


def _in_sqlite(url: str) -> int:
    with opened(url.partition(":///")[2]) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return sum(db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in tables)


def _in_redis(url: str) -> int:
    """Keys that do not expire within a while."""
    import redis

    with redis.Redis.from_url(url) as client:
        lives = [client.pttl(key) for key in client.scan_iter(count=1000)]
    return sum(not 0 <= life <= A_WHILE * 1000 for life in lives)


def _in_mongodb(url: str) -> int:
    """Documents that no index removes within a while; words of releases are in a collection of bounded size."""
    from pymongo import MongoClient

    with MongoClient(url) as client:
        database = client.get_default_database()
        return sum(_lasting(database[found["name"]], found["options"]) for found in database.list_collections())


def _lasting(collection, options) -> int:
    if options.get("capped"):
        return 0
    (field, *_) = [*_ttl_fields(collection), "no index"]
    removed_soon = {"$lte": [f"${field}", {"$add": ["$$NOW", int(A_WHILE * 1000)]}]}
    return collection.count_documents(
        {"$or": [{field: {"$not": {"$type": "date"}}}, {"$expr": {"$not": removed_soon}}]}
    )


def _ttl_fields(collection) -> Iterator[str]:
    for index in collection.list_indexes():
        if index.get("expireAfterSeconds") == 0:
            yield next(iter(index["key"]))


def _in_etcd(url: str) -> int:
    """Keys that end with no lease."""
    server = urlsplit(url)
    start = server.path.strip("/").encode()
    wish = {"key": start, "range_end": start + b"\xff"}
    connection = http.client.HTTPConnection(server.hostname, server.port, timeout=20)
    body = json.dumps({**{key: base64.b64encode(value).decode() for key, value in wish.items()}, "keys_only": True})
    connection.request("POST", "/v3/kv/range", body)
    found = json.loads(connection.getresponse().read()).get("kvs", [])
    connection.close()
    return sum(int(each.get("lease", 0)) == 0 for each in found)


def _in_zookeeper(url: str) -> int:
    """Nodes that are there when another limit was used and the server had the time to remove empty containers."""
    from kazoo.client import KazooClient

    server, backend = urlsplit(url), connect(url)
    client = KazooClient(server.netloc + server.path)
    client.start()
    left, changed = _nodes(client, "/"), time.monotonic()
    while left > FEW and time.monotonic() < changed + _TIDIED:
        for _ in repeat(None, 200):
            free(backend)
        before, left = left, _nodes(client, "/")
        changed = changed if left == before else time.monotonic()
    client.stop()
    client.close()
    backend.close()
    return left


def _nodes(client, path: str) -> int:
    from kazoo.exceptions import NoNodeError

    try:
        children = client.get_children(path)
    except NoNodeError:  # removed meanwhile
        return 0
    return len(children) + sum(_nodes(client, f"{path.rstrip('/')}/{child}") for child in children)
