"""What those who hold and wait do while a store fails, and what is open meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis
from pymongo import MongoClient

from tasklocks import BackendUnavailable, Lock
from tasklocks.backends import Backend
from tasklocks.types import Grant
from tests.line import NAME, Line, Waiting, taken
from tests.processes import eventually
from tests.servers import Server
from tests.servers_etcd import EtcdServer
from tests.servers_zookeeper import ZooKeeperServer

__all__ = ["answers", "frozen", "grows_not", "open_at", "turn", "used", "waiter"]


def answers(backend: Backend) -> bool:
    """Whether it can be written to."""
    try:
        taken(backend, "probe", "probe")
        return backend.release("probe", "probe")
    except BackendUnavailable:
        return False


def turn(backend: Backend, owner: str) -> int:
    """Take the limit, give it back, and return the token."""
    grant = taken(backend, owner)
    backend.release(NAME, owner)
    return grant.fencing_token


def frozen(server: Server, seconds: float) -> None:
    server.pause()
    time.sleep(seconds)
    server.resume()


def waiter(backend: Backend) -> tuple[threading.Thread, list[int]]:
    """A thread that waits in line, and the tokens that it will have got."""
    got: list[int] = []

    def wait() -> None:
        with Lock(NAME, backend=backend).acquire(timeout=30) as lease:
            got.append(lease.fencing_token)

    thread = threading.Thread(target=wait)
    thread.start()
    assert eventually(lambda: backend.inspect(NAME).waiters, within=10)
    return thread, got


def used(backend: Backend, *, misses: bool = False) -> None:
    """Hold, wait and hear, several at once; who may miss its word asks again."""
    assert eventually(lambda: answers(backend), within=30)
    taken(backend, "holder", "used")
    with Line(backend) as line:
        waiters = [line.join(f"waiter-{number}", "used") for number in range(3)]
        backend.release("used", "holder")
        for each in waiters:
            assert (each.hears(within=1.0) or _asked(each)) if misses else each.hears()
            backend.release("used", each.request.owner)


def _asked(waiting: Waiting) -> bool:
    return eventually(lambda: isinstance(waiting.ask(), Grant), within=5, every=0.1)


@contextmanager
def grows_not(count: Callable[[], Mapping[str, int]], spare: Mapping[str, int]) -> Iterator[None]:
    """Insist that afterwards, or soon, there is no more of anything than before, save for `spare`."""
    before = count()
    yield

    def no_more() -> bool:
        now = count()
        return all(now[what] <= before[what] + spare.get(what, 0) for what in before)

    # Some clients' threads end when they next look around, and sessions when their time is over.
    assert eventually(no_more, within=20, every=0.3), (before, count())


def open_at(kind: str, server: Server | None = None) -> dict[str, int]:
    """Count threads and files of this process and, given a server, what the server keeps for its clients."""
    own = {"threads": threading.active_count(), "files": len(os.listdir("/proc/self/fd"))}
    return own if server is None else {**own, **_AT_SERVER[kind](server)}


def _at_redis(server: Server) -> dict[str, int]:
    with redis.Redis.from_url(server.url) as client:
        return {"connections": len(client.client_list()), "channels": len(client.pubsub_channels())}


def _at_mongodb(server: Any) -> dict[str, int]:
    with MongoClient(f"mongodb://{server.address}/?directConnection=true") as client:
        status = client.admin.command("serverStatus")
    return {"cursors": status["metrics"]["cursor"]["open"]["total"], "connections": status["connections"]["current"]}


def _at_etcd(server: EtcdServer) -> dict[str, int]:
    return {"leases": len([each for each in server.leases() if server.ttl(each) < 1000])}


def _at_zookeeper(server: ZooKeeperServer) -> dict[str, int]:
    # A process that waited for a limit may go on watching its header: one watch a limit, and no more.
    watches = max(0, server.count("zk_watch_count") - 1)
    sessions, connections = server.count("zk_global_sessions"), server.count("zk_num_alive_connections")
    return {"watches": watches, "sessions": sessions, "connections": connections}


_AT_SERVER = {"redis": _at_redis, "mongodb": _at_mongodb, "etcd": _at_etcd, "zookeeper": _at_zookeeper}
