"""Where the mutexes live: servers of our own on loopback and files of our own, gone when the run is."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.processes import ROOT
from tests.servers import RedisServer, Server

__all__ = ["SPACES", "STORES", "MissingServerError", "Store", "through"]

SPACES = 10
"""How many databases of PostgreSQL there are beside the first one."""


class MissingServerError(Exception):
    """A server that this machine does not have; who lives there is not measured."""


@dataclass(frozen=True, slots=True)
class Store:
    """A place for mutexes.

    Attributes:
        url: as `tasklocks.connect` takes it.
        software: the name and version of what keeps the mutexes.
        another: the URL of the n-th empty space beside it, behind the same server.
        port: where its server listens; None if it has none.
        server_cpu: seconds of processor time that its server has used so far; None if nobody tells.
    """

    url: str
    software: str
    another: Callable[[int], str]
    port: int | None = None
    server_cpu: Callable[[], float] | None = None


def _memory(stack: ExitStack, folder: Path) -> Store:
    return Store("memory://", f"Python {platform.python_version()}", lambda number: f"memory://{number}")


def _sqlite(stack: ExitStack, folder: Path) -> Store:
    return Store(
        f"sqlite:///{folder}/locks.db",
        f"SQLite {sqlite3.sqlite_version}",
        lambda number: f"sqlite:///{folder}/locks-{number}.db",
    )


def _redis(stack: ExitStack, folder: Path) -> Store:
    from redis import Redis

    if not RedisServer.installed():
        subprocess.run([ROOT / "tools" / "apt_install.sh", "redis-server"], check=True)
    server = stack.enter_context(RedisServer(folder / "redis"))
    client = stack.enter_context(Redis.from_url(server.url))

    def cpu() -> float:
        used = client.info("cpu")
        return float(used["used_cpu_user"] + used["used_cpu_sys"])

    return Store(
        server.url,
        f"redis-server {client.info('server')['redis_version']}",
        lambda number: f"redis://127.0.0.1:{server.port}/{number}",
        server.port,
        cpu,
    )


def _mongodb(stack: ExitStack, folder: Path) -> Store:
    from pymongo import MongoClient

    from tests.servers_mongodb import MongoServer

    server = stack.enter_context(_installed(MongoServer)(folder / "mongodb"))
    options = "directConnection=true"
    address = f"mongodb://127.0.0.1:{server.port}"
    with MongoClient(f"{address}/?{options}") as client:
        release = client.server_info()["version"]
    return Store(
        f"{address}/bench?{options}",
        f"MongoDB {release}",
        lambda number: f"{address}/bench-{number}?{options}",
        server.port,
    )


def _etcd(stack: ExitStack, folder: Path) -> Store:
    from tests.servers_etcd import EtcdServer

    server = stack.enter_context(_installed(EtcdServer)(folder / "etcd"))
    release = server.ask("/v3/maintenance/status")["version"]
    return Store(server.url, f"etcd {release}", lambda number: f"{server.url}/space-{number}", server.port)


def _postgresql(stack: ExitStack, folder: Path) -> Store:
    import psycopg

    from tests.servers_postgresql import PostgresServer

    server = stack.enter_context(_installed(PostgresServer)(folder / "postgresql", "-c", "max_connections=300"))
    # Processes that are started later find the project by these, as those of a site do.
    os.environ |= {"BENCH_POSTGRESQL_URL": server.url, "DJANGO_SETTINGS_MODULE": "benchmarks.django_settings"}
    with psycopg.connect(server.url, autocommit=True) as client:
        release = client.info.parameter_status("server_version")
        client.execute("CREATE DATABASE bench_default")
        _migrate()
        for number in range(1, SPACES + 1):
            client.execute(f"CREATE DATABASE bench_space{number} TEMPLATE bench_default")
    return Store("django://default", f"PostgreSQL {release}", lambda number: f"django://space{number}")


def _migrate() -> None:
    import django
    from django.core.management import call_command
    from django.db import connections

    django.setup()
    call_command("migrate", "tasklocks", verbosity=0)
    connections.close_all()


def _zookeeper(stack: ExitStack, folder: Path) -> Store:
    from kazoo.client import KazooClient

    from tests.servers_zookeeper import ZooKeeperServer

    server = stack.enter_context(_installed(ZooKeeperServer)(folder / "zookeeper"))
    client = KazooClient(f"127.0.0.1:{server.port}")
    client.start()
    release = ".".join(str(number) for number in client.server_version())
    client.stop()
    client.close()
    return Store(server.url, f"ZooKeeper {release}", lambda number: f"{server.url}/space-{number}", server.port)


def _installed(server: type[Server]) -> type[Server]:
    if not server.installed():
        raise MissingServerError(f"{server.program} is not installed")
    return server


STORES: Mapping[str, Callable[[ExitStack, Path], Store]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": _redis,
    "mongodb": _mongodb,
    "etcd": _etcd,
    "zookeeper": _zookeeper,
    "postgresql": _postgresql,
}
"""From a store's name to what opens it; the stack closes it."""


def through(store: Store, port: int) -> str:
    """Return the store's URL as it is behind a relay that listens at `port`."""
    parts = urlsplit(store.url)
    return parts._replace(netloc=parts.netloc.replace(f":{store.port}", f":{port}")).geturl()
