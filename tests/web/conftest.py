"""`tasklocks web` as it is started, on a free port, and clients to ask it."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tasklocks import connect
from tasklocks.backends import Backend
from tests.processes import ChildProcess, eventually

TOKEN = "the-token-of-this-test-only"


@dataclass
class Served:
    """A page that is served.

    Attributes:
        url: where, without the token.
        printed: the address as it was printed.
        process: the server.
    """

    url: str
    printed: str
    process: ChildProcess

    def client(self, **headers: str) -> httpx.Client:
        """Return a client that asks as a browser's page of this address does."""
        return httpx.Client(base_url=self.url, headers={"origin": self.url, **headers}, timeout=10)

    @contextmanager
    def logged_in(self) -> Iterator[httpx.Client]:
        """Open a client that has the cookie and the key."""
        with self.client() as client:
            client.headers["x-tasklocks-key"] = client.post("/api/login", json={"token": TOKEN}).json()["key"]
            yield client


@pytest.fixture
def backend_of() -> Iterator[Callable[[str], Backend]]:
    """Return a function that returns the backend of a URL, and closes it after the test."""
    with ExitStack() as stack:

        def opened(url: str) -> Backend:
            backend = connect(url)
            stack.callback(backend.close)
            return backend

        yield opened


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Return a function that serves the page of the backend at a URL."""
    numbers = itertools.count(1)
    with ExitStack() as stack:
        yield lambda url, *options: _started(stack, tmp_path / f"web-{next(numbers)}.log", url, options)


def _started(stack: ExitStack, log: Path, url: str, options: tuple[str, ...]) -> Served:
    command = [sys.executable, "-W", "error", "-m", "tasklocks", "web", "--json", "--port", "0", *options]
    process = ChildProcess(command, log=log, env={"TASKLOCKS_URL": url, "TASKLOCKS_WEB_TOKEN": TOKEN})
    stack.callback(process.stop)
    assert eventually(lambda: "\n" in process.log() or not process.running, within=20)
    assert process.running, process.log()
    printed = json.loads(process.log().splitlines()[0])["url"]
    return Served(urlsplit(printed)._replace(path="", fragment="").geturl(), printed, process)
