"""Other libraries' mutexes, each as its documentation shows it, with an expiry of 30 s like ours.

Each gets a client of its own with redis-py's defaults. Polling intervals stay as they come.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

from benchmarks.pair import Pair

__all__ = [
    "dramatiq",
    "etcd3gw",
    "kazoo",
    "kazoo_semaphore",
    "pottery",
    "python_redis_lock",
    "python_redis_lock_kept",
    "redis_py",
    "sherlock",
    "tooz",
    "tooz_etcd",
]

_EXPIRY = 30


def redis_py(url: str, name: str) -> Pair:
    """Return redis-py's own Lock."""
    from redis import Redis

    lock = Redis.from_url(url).lock(name, timeout=_EXPIRY)
    return Pair(lambda blocking: bool(lock.acquire(blocking=blocking)), lock.release)


def python_redis_lock(url: str, name: str) -> Pair:
    """Return python-redis-lock's Lock, without its thread that renews."""
    from redis import Redis
    from redis_lock import Lock

    lock = Lock(Redis.from_url(url), name, expire=_EXPIRY)
    return Pair(lambda blocking: lock.acquire(blocking=blocking), lock.release)


def python_redis_lock_kept(url: str, name: str, ttl: float) -> object:
    """Return python-redis-lock's Lock, held, with its thread that renews."""
    lock = _redis_lock(url)(name, expire=ttl, auto_renewal=True)
    if not lock.acquire(blocking=False):
        raise RuntimeError("a mutex that nobody else uses was busy")
    return lock


def sherlock(url: str, name: str) -> Pair:
    """Return sherlock's RedisLock."""
    from redis import Redis
    from sherlock import RedisLock

    # Its blocking acquire always has a timeout; this one is longer than any run.
    lock = RedisLock(name, client=Redis.from_url(url), expire=_EXPIRY, timeout=3600)
    return Pair(lambda blocking: bool(lock.acquire(blocking)), lock.release)


def tooz(url: str, name: str) -> Pair:
    """Return a lock of tooz's redis driver."""
    return _tooz(url.rpartition("/")[0], name)


def tooz_etcd(url: str, name: str) -> Pair:
    """Return a lock of tooz's driver for etcd's gateway."""
    return _tooz(f"etcd3+http://{urlsplit(url).netloc}", name)


def dramatiq(url: str, name: str) -> Pair:
    """Return dramatiq's ConcurrentRateLimiter with one place."""
    from dramatiq.rate_limits import ConcurrentRateLimiter
    from dramatiq.rate_limits.backends import RedisBackend

    limiter = ConcurrentRateLimiter(RedisBackend(url=url), name, limit=1, ttl=_EXPIRY * 1000)
    held = ExitStack()
    return Pair(lambda _: held.enter_context(limiter.acquire(raise_on_failure=False)), held.close)


def pottery(url: str, name: str) -> Pair:
    """Return pottery's Redlock over this one server."""
    from pottery import Redlock
    from redis import Redis

    lock = Redlock(key=name, masters={Redis.from_url(url)}, auto_release_time=_EXPIRY)
    return Pair(lambda blocking: lock.acquire(blocking=blocking), lock.release)


def kazoo(url: str, name: str) -> Pair:
    """Return kazoo's Lock."""
    from kazoo.client import KazooClient

    client = KazooClient(urlsplit(url).netloc)
    client.start()
    lock = client.Lock(f"/{name}")
    return Pair(lambda blocking: lock.acquire(blocking=blocking), lock.release)


def kazoo_semaphore(url: str, name: str) -> Pair:
    """Return kazoo's Semaphore with one permit."""
    from kazoo.client import KazooClient

    client = KazooClient(urlsplit(url).netloc)
    client.start()
    semaphore = client.Semaphore(f"/{name}")
    return Pair(lambda blocking: semaphore.acquire(blocking=blocking), semaphore.release)


def etcd3gw(url: str, name: str) -> Pair:
    """Return etcd3gw's Lock, which cannot wait."""
    import etcd3gw as library

    place = urlsplit(url)
    lock = library.client(host=place.hostname, port=place.port).lock(name, ttl=_EXPIRY)
    return Pair(lambda _: lock.acquire(), lock.release)


def _tooz(url: str, name: str) -> Pair:
    from tooz import coordination

    member = f"{os.getpid()}-{os.urandom(4).hex()}".encode()
    coordinator = coordination.get_coordinator(f"{url}?timeout={_EXPIRY}", member)
    coordinator.start()
    lock = coordinator.get_lock(name.encode())
    return Pair(lambda blocking: lock.acquire(blocking=blocking), lock.release)


@functools.cache
def _redis_lock(url: str) -> Callable[..., Any]:
    """Return what makes locks that share one client, as a program with many locks would have it."""
    from redis import Redis
    from redis_lock import Lock

    # Its threads renew at about the same time, each on a connection of its own.
    return functools.partial(Lock, Redis.from_url(url, max_connections=10_000))
