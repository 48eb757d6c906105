"""Who is measured: one table; a new store or library is one function and one line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from benchmarks import floors, ours, peers
from benchmarks.pair import Pair

__all__ = ["CONTESTANTS", "Contestant", "chosen", "floor_of", "release_of"]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to take and give back a mutex.

    Attributes:
        name: what the tables show.
        store: where the mutex lives; a key of `stores.STORES`.
        role: `floor` (the bare commands), `tasklocks` or `peer`.
        make: from the store's URL and a name to the mutex of that name, as one process uses it.
        package: the distribution that it needs; empty: nothing beyond this project and Python.
        waits: whether its acquire can wait; only such ones are measured under contention.
        keep: from URL, name and ttl to a lease that it keeps alive by itself; None if it has no such thing.
    """

    name: str
    store: str
    role: str
    make: Callable[[str, str], Pair]
    package: str = ""
    waits: bool = True
    keep: Callable[[str, str, float], object] | None = None


CONTESTANTS = (
    Contestant("floor: dict + threading.Lock", "memory", "floor", floors.memory, waits=False),
    Contestant("tasklocks memory", "memory", "tasklocks", ours.lock, waits=False),
    Contestant("floor: two SQLite transactions", "sqlite", "floor", floors.sqlite),
    Contestant("tasklocks sqlite", "sqlite", "tasklocks", ours.lock, keep=ours.kept),
    Contestant("floor: SET NX PX + EVALSHA", "redis", "floor", floors.redis, "redis", waits=False),
    Contestant("tasklocks redis", "redis", "tasklocks", ours.lock, "redis", keep=ours.kept),
    Contestant("redis-py Lock", "redis", "peer", peers.redis_py, "redis"),
    Contestant(
        "python-redis-lock",
        "redis",
        "peer",
        peers.python_redis_lock,
        "python-redis-lock",
        keep=peers.python_redis_lock_kept,
    ),
    Contestant("sherlock", "redis", "peer", peers.sherlock, "sherlock"),
    Contestant("tooz redis", "redis", "peer", peers.tooz, "tooz"),
    Contestant("dramatiq Concurrent", "redis", "peer", peers.dramatiq, "dramatiq", waits=False),
    Contestant("pottery Redlock", "redis", "peer", peers.pottery, "pottery"),
    Contestant("floor: two majority writes", "mongodb", "floor", floors.mongodb, "pymongo", waits=False),
    Contestant("tasklocks mongodb", "mongodb", "tasklocks", ours.lock, "pymongo", keep=ours.kept),
    Contestant("floor: two transactions over HTTP", "etcd", "floor", floors.etcd, waits=False),
    Contestant("tasklocks etcd", "etcd", "tasklocks", ours.lock, keep=ours.kept),
    Contestant("etcd3gw Lock", "etcd", "peer", peers.etcd3gw, "etcd3gw", waits=False),
    Contestant("tooz etcd", "etcd", "peer", peers.tooz_etcd, "tooz"),
    Contestant("floor: create and delete a node", "zookeeper", "floor", floors.zookeeper, "kazoo", waits=False),
    Contestant("tasklocks zookeeper", "zookeeper", "tasklocks", ours.lock, "kazoo", keep=ours.kept),
    Contestant("kazoo Lock", "zookeeper", "peer", peers.kazoo, "kazoo"),
    Contestant("kazoo Semaphore", "zookeeper", "peer", peers.kazoo_semaphore, "kazoo"),
    Contestant("floor: INSERT and DELETE", "postgresql", "floor", floors.postgresql, "psycopg", waits=False),
    Contestant("tasklocks django://", "postgresql", "tasklocks", ours.lock, "psycopg", keep=ours.kept),
)


def chosen(words: Sequence[str]) -> tuple[Contestant, ...]:
    """Return the contestants whose store or name one of `words` is in, with the floors they are compared to."""
    if not words:
        return CONTESTANTS
    named = [each for each in CONTESTANTS if any(word in f"{each.store} {each.name}" for word in words)]
    stores = {each.store for each in named}
    return tuple(each for each in CONTESTANTS if each in named or (each.role == "floor" and each.store in stores))


def floor_of(store: str) -> Contestant:
    """Return the bare commands of `store`."""
    return next(each for each in CONTESTANTS if each.store == store and each.role == "floor")


def release_of(contestant: Contestant) -> str | None:
    """Return the version of the contestant's package, or None if it is not installed."""
    if not contestant.package:
        return ""
    try:
        return version(contestant.package)
    except PackageNotFoundError:
        return None
