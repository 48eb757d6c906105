"""The floors: what a mutex costs at the least, with each store's bare commands and none of a lock's promises."""

from __future__ import annotations

import atexit
import base64
import http.client
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from benchmarks.pair import Pair

__all__ = ["etcd", "memory", "mongodb", "postgresql", "redis", "sqlite", "zookeeper"]

_POLL = 0.001
_DELETE_MINE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1])"

_taken: set[str] = set()
_guard = threading.Lock()


def memory(url: str, name: str) -> Pair:
    """Return a set behind a `threading.Lock`."""

    def acquire() -> bool:
        with _guard:
            if name in _taken:
                return False
            _taken.add(name)
            return True

    def release() -> None:
        with _guard:
            _taken.discard(name)

    return Pair(_polling(acquire), release)


def redis(url: str, name: str) -> Pair:
    """Return redis-py's `SET key value NX PX`, and the deletion of that very value by a cached script."""
    from redis import Redis

    client = Redis.from_url(url)
    mine = secrets.token_hex(8)
    script = client.script_load(_DELETE_MINE)
    return Pair(
        _polling(lambda: bool(client.set(name, mine, nx=True, px=30_000))),
        lambda: client.evalsha(script, 1, name, mine),
    )


def sqlite(url: str, name: str) -> Pair:
    """Return one INSERT and one DELETE, each in a transaction, with the settings of the tasklocks backend."""
    path = url.removeprefix("sqlite:///") + ".floor"
    db = sqlite3.connect(path, timeout=30, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("CREATE TABLE IF NOT EXISTS taken (name TEXT PRIMARY KEY)")

    def acquire() -> bool:
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute("INSERT INTO taken VALUES (?)", (name,))
        except sqlite3.IntegrityError:
            db.execute("ROLLBACK")
            return False
        db.execute("COMMIT")
        return True

    def release() -> None:
        db.execute("BEGIN IMMEDIATE")
        db.execute("DELETE FROM taken WHERE name = ?", (name,))
        db.execute("COMMIT")

    return Pair(_polling(acquire), release)


def mongodb(url: str, name: str) -> Pair:
    """Return one insert and one deletion of a document, both acknowledged by a majority."""
    from pymongo import MongoClient, WriteConcern
    from pymongo.errors import DuplicateKeyError

    taken = MongoClient(url)["bench"].get_collection("taken", write_concern=WriteConcern("majority"))

    def acquire() -> bool:
        try:
            taken.insert_one({"_id": name})
        except DuplicateKeyError:
            return False
        return True

    return Pair(_polling(acquire), lambda: taken.delete_one({"_id": name}))


def postgresql(url: str, name: str) -> Pair:
    """Return psycopg's insertion and deletion of a row, each a transaction and prepared, as the backend's steps are."""
    import psycopg

    server = os.environ["BENCH_POSTGRESQL_URL"].rpartition("/")[0]
    client = psycopg.connect(f"{server}/bench_default", autocommit=True, prepare_threshold=0)
    atexit.register(client.close)  # a connection that is forgotten complains
    client.execute("CREATE TABLE IF NOT EXISTS taken (name text PRIMARY KEY)")
    insert, delete = "INSERT INTO taken VALUES (%s) ON CONFLICT DO NOTHING", "DELETE FROM taken WHERE name = %s"
    return Pair(
        _polling(lambda: client.execute(insert, (name,)).rowcount == 1), lambda: client.execute(delete, (name,))
    )


def zookeeper(url: str, name: str) -> Pair:
    """Return kazoo's creation of an ephemeral node, and its deletion."""
    from kazoo.client import KazooClient
    from kazoo.exceptions import NodeExistsError

    client = KazooClient(urlsplit(url).netloc)
    client.start()

    def acquire() -> bool:
        try:
            client.create(f"/{name}", ephemeral=True)
        except NodeExistsError:
            return False
        return True

    return Pair(_polling(acquire), lambda: client.delete(f"/{name}"))


def etcd(url: str, name: str) -> Pair:
    """Return a transaction that makes a key if there is none, and one that deletes it, through the JSON gateway."""
    gateway = http.client.HTTPConnection(urlsplit(url).netloc)
    key = base64.b64encode(name.encode()).decode()
    absent = {"key": key, "target": "CREATE", "createRevision": "0"}
    put = json.dumps({"compare": [absent], "success": [{"requestPut": {"key": key}}]})
    delete = json.dumps({"success": [{"requestDeleteRange": {"key": key}}]})

    def ask(transaction: str) -> bool:
        gateway.request("POST", "/v3/kv/txn", transaction)
        return bool(json.loads(gateway.getresponse().read()).get("succeeded", False))

    return Pair(_polling(lambda: ask(put)), lambda: ask(delete))


def _polling(attempt: Callable[[], bool]) -> Callable[[bool], bool]:
    """Return an acquire that tries again every millisecond: all that bare commands can do."""

    def acquire(blocking: bool) -> bool:
        while not attempt():
            if not blocking:
                return False
            time.sleep(_POLL)
        return True

    return acquire
