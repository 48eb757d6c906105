"""`page`: what `tasklocks web` costs while somebody watches many changing limits, and while nobody does; on Redis."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from benchmarks.contestants import Contestant
from benchmarks.listing import fill
from benchmarks.plan import Plan
from tasklocks import connect
from tests.processes import ChildProcess, eventually
from tests.web.scene import changing

__all__ = ["measure", "watched"]

_SPACE = 902  # not one that another comparison uses
_TIMES = 4  # as long as others, for it is little that is measured
_WARM_UP = 2.0  # seconds
_PAUSE = 0.001  # between two changes


def measure(plan: Plan) -> list[dict[str, Any]]:
    """Return a row for Redis."""
    return [_row(plan, each) for each in plan.ours() if each.store == "redis"]


def watched(url: str, limits: int, seconds: float) -> dict[str, Any]:
    """Return what the page's server takes of a core, in percent, with one viewer and with none."""
    fill(url, limits)
    backend = connect(url)
    with (
        changing(backend, [f"import-{number}" for number in range(limits)], pause=_PAUSE),
        _page(url) as (pid, address),
    ):
        alone = _share(pid, min(seconds, 5.0))
        with _viewer(address) as seen:
            time.sleep(min(seconds, _WARM_UP))
            before = seen()
            share = _share(pid, seconds)
            size = (seen() - before) / seconds
    backend.close()
    return {"limits": limits, "share": share, "share_alone": alone, "kilobytes": size / 1024}


def _row(plan: Plan, contestant: Contestant) -> dict[str, Any]:
    url = plan.stores[contestant.store].another(_SPACE)
    figures = watched(url, plan.scale.watched, _TIMES * plan.scale.seconds)
    return {"store": contestant.store, "contestant": contestant.name, "role": contestant.role, **figures}


@contextmanager
def _page(url: str) -> Iterator[tuple[int, str]]:
    """Serve the page; yield its process and its address."""
    command = [sys.executable, "-m", "tasklocks", "web", "--json", "--port", "0"]
    with TemporaryDirectory() as folder:
        # It ends with us, even if we are killed.
        process = ChildProcess(command, log=Path(folder) / "web.log", env={"TASKLOCKS_URL": url})
        try:
            eventually(lambda: "\n" in process.log() or not process.running, within=30)
            yield process.pid, urlsplit(json.loads(process.log().splitlines()[0])["url"]).netloc
        finally:
            process.stop()


@contextmanager
def _viewer(address: str) -> Iterator[Callable[[], int]]:
    """Watch the list; yield what tells how many bytes came."""
    count = 0
    connection = HTTPConnection(address, timeout=30)
    connection.request("GET", "/api/live")
    stream = connection.getresponse()

    def read() -> None:
        nonlocal count
        with suppress(HTTPException, OSError):  # it has no end of its own
            while part := stream.read1(65536):
                count += len(part)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield lambda: count
    finally:
        connection.sock.shutdown(socket.SHUT_RDWR)
        reader.join(5)
        stream.close()
        connection.close()


def _share(pid: int, seconds: float) -> float:
    used, began = _cpu(pid), time.monotonic()
    time.sleep(seconds)
    return 100 * (_cpu(pid) - used) / (time.monotonic() - began)


def _cpu(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
