"""What the fault tests must know of each store: its servers, and where it differs from the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasklocks.backends import Backend
from tasklocks.backends.etcd import EtcdBackend
from tasklocks.backends.etcd.sessions import MIN_TTL
from tasklocks.backends.mongodb import MongoBackend
from tasklocks.backends.redis import RedisBackend
from tasklocks.backends.zookeeper import ZooKeeperBackend
from tests.servers import GuardedRedis, LastingRedisServer, Server
from tests.servers_etcd import EtcdCluster, EtcdServer
from tests.servers_mongodb import MongoReplicaSet, MongoServer
from tests.servers_zookeeper import ZooKeeperEnsemble, ZooKeeperServer

__all__ = ["STORES", "Store", "with_option"]


@dataclass(frozen=True)
class Store:
    """One kind of store.

    Attributes:
        backend: makes one with clients of its own, which `connect` would share.
        server: makes one server, which keeps what it has over a restart.
        trio: makes three servers with a `leader()` and its `members`.
        timeout: the option that says after how long a step is given up; `{s}` and `{ms}` stand for the time.
        silent: what the error says when that time is over.
        ttl: of the leases in the tests.
        notices: whether steps fail for a moment after a server is back or another leads, instead of being tried again.
        short_sessions: the option with which a session ends soon without its process.
        election: the options with which a step outlasts an election.
        misses: whether a waiter may miss its word in the moment after an outage, and gets its lease by asking again.
        forgets: whether those that take over may not know the newest leases.
        spare: how many more of a kind may be open after an outage, for what was in use at once differs.
    """

    backend: Callable[[str], Backend]
    server: Callable[[Path], Server]
    trio: Callable[[Path], Any]
    timeout: str
    silent: str = "does not answer"
    ttl: float = 1.0
    notices: bool = False
    short_sessions: str = ""
    election: str = ""
    misses: bool = False
    forgets: bool = False
    spare: Mapping[str, int] = field(default_factory=dict)

    def giving_up(self, url: str, seconds: int) -> str:
        """Return the URL of the same store, whose steps are given up after so many seconds."""
        return with_option(url, self.timeout.format(s=seconds, ms=1000 * seconds))


def with_option(url: str, option: str) -> str:
    """Return a URL with one more option, or as it is if there is none."""
    return f"{url}{'&' if '?' in url else '?'}{option}" if option else url


STORES = {
    "redis": Store(
        RedisBackend,
        LastingRedisServer,
        GuardedRedis,
        timeout="socket_timeout={s}",
        misses=True,
        forgets=True,
        spare={"files": 2, "connections": 2},
    ),
    "mongodb": Store(
        MongoBackend,
        MongoServer,
        MongoReplicaSet,
        timeout="socketTimeoutMS={ms}",
        election="serverSelectionTimeoutMS=15000",
        # pymongo watches each server with two threads, and starts them anew now and then.
        spare={"threads": 4, "files": 4, "connections": 4},
    ),
    "etcd": Store(
        EtcdBackend,
        EtcdServer,
        EtcdCluster,
        timeout="timeout={s}",
        ttl=MIN_TTL,
        spare={"files": 2},
    ),
    "zookeeper": Store(
        ZooKeeperBackend,
        ZooKeeperServer,
        ZooKeeperEnsemble,
        timeout="timeout={s}",
        silent="did not answer within",
        notices=True,
        short_sessions="session_timeout=2",
        election="session_timeout=30&timeout=20",
    ),
}
