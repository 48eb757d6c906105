"""`ls`: how long a list of very many limits takes on Redis, and for how long another client waits meanwhile."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.contestants import Contestant
from benchmarks.plan import Plan
from benchmarks.stores import Store
from tasklocks import connect
from tasklocks.backends.redis._scripts import ACQUIRE, micros

__all__ = ["fill", "measure"]

_SPACE = 901  # not one that another comparison uses
_AT_ONCE = 500
_PAUSE = 0.001
_ALONE = 2.0  # seconds of asking before, to know what the machine itself costs


def measure(plan: Plan) -> list[dict[str, Any]]:
    """Return a row for Redis."""
    return [_row(plan, each, plan.stores[each.store]) for each in plan.ours() if each.store == "redis"]


def fill(url: str, count: int) -> None:
    """Hold so many limits of a Redis, quicker than one by one."""
    backend = connect(url)
    for start in range(0, count, _AT_ONCE):
        numbers = range(start, min(start + _AT_ONCE, count))
        wishes = [(f"import-{n}", f"task-{n}:x", 1, 1, micros(600), f'{{"id":"task-{n}"}}', "", 0, "") for n in numbers]
        backend._calls().run_all([backend._call(ACQUIRE, *wish) for wish in wishes])
    backend.close()


def _row(plan: Plan, contestant: Contestant, store: Store) -> dict[str, Any]:
    assert store.port is not None
    url = store.another(_SPACE)
    fill(url, plan.scale.listed)
    until = time.monotonic() + min(_ALONE, plan.scale.seconds)
    alone = _longest_ping(store.port, lambda: time.monotonic() < until)
    began = time.monotonic()
    command = [sys.executable, "-m", "tasklocks", "ls", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "TASKLOCKS_URL": url})
    meanwhile = _longest_ping(store.port, lambda: process.poll() is None)
    took = time.monotonic() - began
    return {
        "store": contestant.store,
        "contestant": contestant.name,
        "role": contestant.role,
        "limits": json.loads(process.communicate()[0])["total"],
        "seconds": took,
        "longest_ms": meanwhile * 1000,
        "longest_alone_ms": alone * 1000,
    }


def _longest_ping(port: int, more: Callable[[], bool]) -> float:
    """Ask the server for nothing, again and again; return how long it took at the most, in seconds."""
    longest = 0.0
    with socket.create_connection(("127.0.0.1", port)) as client:
        while more():
            began = time.perf_counter()
            client.sendall(b"PING\r\n")
            client.recv(64)
            longest = max(longest, time.perf_counter() - began)
            time.sleep(_PAUSE)
    return longest
