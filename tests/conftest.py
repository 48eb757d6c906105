"""Fixtures that every test file shares: real servers once a session, a fresh and empty backend for each test."""

from __future__ import annotations

import itertools
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from celery import _state

from tasklocks.testing.fixtures import Restartable, backend, by_since, in_order, line, ttl  # noqa: F401
from tests.leftovers import TidyZooKeeperServer, counter
from tests.processes import eventually
from tests.servers import RabbitServer, RedisServer, Server
from tests.servers_etcd import EtcdServer, new_etcd_namespace
from tests.servers_mongodb import MongoServer
from tests.servers_postgresql import PostgresServer
from tests.servers_zookeeper import ZooKeeperServer

BACKENDS = ["memory", "sqlite", "redis", "mongodb", "etcd", "zookeeper"]
SHARED_BACKENDS = [name for name in BACKENDS if name != "memory"]
SERVED_BACKENDS = [name for name in SHARED_BACKENDS if name != "sqlite"]
SERVERS = {"redis": RedisServer, "mongodb": MongoServer, "etcd": EtcdServer, "zookeeper": ZooKeeperServer}
BROKERS = ["redis", "rabbitmq"]

# A project of its own: test_third_party.py runs it as its author would.
collect_ignore = ["third_party"]

# Processes that test side by side (pytest-xdist) may share a server: each has a range of databases for itself.
_databases = itertools.count(1 + 1000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]))
# Threads that live as long as the process on purpose, one of each kind.
_LASTING = ("tasklocks-renewal", "tasklocks-listener", "tasklocks-overdue", "pymongo", "grpc")


@pytest.fixture(scope="session", autouse=True)
def worker_logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the workers' logs where pytest keeps, and one day removes, the files of its last sessions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKLOCKS_TEST_LOGS", str(tmp_path_factory.mktemp("workers")))
        yield


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis whose databases the tests may empty."""
    yield from _served("TASKLOCKS_TEST_REDIS_URL", RedisServer, tmp_path_factory)


@pytest.fixture(scope="session")
def rabbitmq_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A RabbitMQ; tests keep apart by the names of their queues."""
    yield from _served("TASKLOCKS_TEST_RABBITMQ_URL", RabbitServer, tmp_path_factory)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test's own, to be paused, killed and restarted."""
    require(RedisServer)
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def rabbitmq_server(tmp_path: Path) -> Iterator[RabbitServer]:
    """A RabbitMQ of this test's own, to be paused, killed and restarted; takes seconds to start."""
    require(RabbitServer)
    with RabbitServer(tmp_path / "rabbitmq") as server:
        yield server


@pytest.fixture(scope="session")
def mongodb_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A MongoDB replica set; tests keep apart by the names of their databases."""
    yield from _served("TASKLOCKS_TEST_MONGODB_URL", MongoServer, tmp_path_factory)


@pytest.fixture(scope="session")
def zookeeper_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A ZooKeeper; tests keep apart by the paths of their URLs."""
    yield from _served("TASKLOCKS_TEST_ZOOKEEPER_URL", ZooKeeperServer, tmp_path_factory)


@pytest.fixture(scope="session")
def tidy_zookeeper_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A ZooKeeper that looks for what may go every second instead of every minute."""
    yield from _served("TASKLOCKS_TEST_ZOOKEEPER_URL", TidyZooKeeperServer, tmp_path_factory)


@pytest.fixture(scope="session")
def etcd_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An etcd; tests keep apart by the paths of their URLs."""
    yield from _served("TASKLOCKS_TEST_ETCD_URL", EtcdServer, tmp_path_factory)


@pytest.fixture(scope="session")
def postgresql_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL; tests keep apart by their databases (`new_postgresql_database`)."""
    yield from _served("TASKLOCKS_TEST_POSTGRESQL_URL", PostgresServer, tmp_path_factory)


@pytest.fixture
def redis_database(redis_url: str) -> str:
    """The URL of an empty database of the session's Redis."""
    return empty_redis_database(redis_url)


@pytest.fixture(params=BACKENDS)
def backend_url(request: pytest.FixtureRequest, new_backend_url: Callable[[str], str]) -> str:
    """The URL of an empty backend, of each kind in turn."""
    return new_backend_url(request.param)


@pytest.fixture(params=SHARED_BACKENDS)
def process_backend_url(request: pytest.FixtureRequest, new_backend_url: Callable[[str], str]) -> str:
    """The URL of an empty backend that several processes can share, of each kind in turn."""
    return new_backend_url(request.param)


@pytest.fixture
def new_backend_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Return a function that makes the URL of one more empty backend of a kind."""
    numbers = itertools.count(1)
    zookeeper = "tidy_zookeeper_url" if "left_for_ever" in request.fixturenames else "zookeeper_url"
    makers = {
        "memory": lambda: f"memory://{tmp_path.name}-{next(numbers)}",
        "sqlite": lambda: f"sqlite:///{tmp_path}/locks-{next(numbers)}.db",
        "redis": lambda: empty_redis_database(request.getfixturevalue("redis_url")),
        "mongodb": lambda: new_mongodb_database(request.getfixturevalue("mongodb_url")),
        "etcd": lambda: new_etcd_namespace(request.getfixturevalue("etcd_url")),
        "zookeeper": lambda: new_zookeeper_path(request.getfixturevalue(zookeeper)),
    }
    return lambda kind: makers[kind]()


@pytest.fixture(params=SERVED_BACKENDS)
def restartable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Restartable]:
    """An empty backend on a server of this test's own, of each kind that has one."""
    kind = SERVERS[request.param]
    require(kind)
    with kind(tmp_path / "server") as server:
        yield Restartable(server.url, server.restart)


@pytest.fixture
def left_for_ever(
    request: pytest.FixtureRequest, backend_url: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], int]:
    """Return a function that counts what will never be removed by itself."""
    kind = request.node.callspec.params["backend_url"]
    return counter(kind, backend_url, monkeypatch)


@pytest.fixture(params=[200, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])])
def how_many(request: pytest.FixtureRequest) -> int:
    """How many limits are used once to see what they leave behind."""
    return request.param


@pytest.fixture(params=BROKERS)
def broker_url(request: pytest.FixtureRequest) -> str:
    """The URL of each kind of broker in turn."""
    if request.param == "redis":
        return empty_redis_database(request.getfixturevalue("redis_url"))
    return request.getfixturevalue("rabbitmq_url")


@pytest.fixture(autouse=True)
def no_app_stays_current(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a test's app and its settings from the tests after it."""
    monkeypatch.setattr(_state._tls, "current_app", _state._tls.current_app)


@pytest.fixture(autouse=True)
def no_thread_is_left_behind() -> Iterator[None]:
    """Fail a test whose threads go on after it."""
    before = set(threading.enumerate())
    yield
    assert eventually(lambda: not _new_threads(before), within=5), f"left running: {_new_threads(before)}"


def empty_redis_database(url: str) -> str:
    """Return the URL of the next database of the server at `url`, emptied."""
    import redis

    with redis.Redis.from_url(url) as client:
        count = int(client.config_get("databases")["databases"])
    fresh = urlunsplit(urlsplit(url)._replace(path=f"/{next(_databases) % count}"))
    with redis.Redis.from_url(fresh) as client:
        client.flushdb()
    return fresh


def new_mongodb_database(url: str) -> str:
    """Return the URL of a database of the server at `url` that nobody has used yet."""
    return urlunsplit(urlsplit(url)._replace(path=f"/tests-{os.getpid()}-{time.time_ns()}"))


def new_zookeeper_path(url: str) -> str:
    """Return the URL of a path of its own in the ZooKeeper at `url`."""
    return f"{url}/tests/{uuid.uuid4().hex}"


def require(server: type[Server]) -> None:
    """Skip the test if the server is not installed; in CI that is a failure, for nothing may be skipped there."""
    if not server.installed():
        missing_program(server.program)


def missing_program(name: str) -> None:
    """Skip the test, or fail it in CI, for want of a program."""
    missing = f"{name} is not installed: run `make test`, or set a TASKLOCKS_TEST_…_URL"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def _served(variable: str, server: type[Server], folders: pytest.TempPathFactory) -> Iterator[str]:
    if variable in os.environ:
        yield os.environ[variable]
        return
    require(server)
    with server(folders.mktemp(server.program)) as running:
        yield running.url


def _new_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    new = set(threading.enumerate()) - before
    return [thread for thread in new if thread.is_alive() and not thread.name.startswith(_LASTING)]
