"""The fixtures of the suite; a backend's author gives `backend_url`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tasklocks import connect
from tasklocks.backends import Backend
from tasklocks.testing.asking import Line

__all__ = [
    "Restartable",
    "backend",
    "by_since",
    "how_many",
    "in_order",
    "left_for_ever",
    "line",
    "process_backend_url",
    "restartable",
    "shared_by_processes",
    "ttl",
]


@dataclass(frozen=True)
class Restartable:
    """An empty backend, and how to restart the server behind it.

    Attributes:
        url: of the backend.
        restart: stops the server and starts it again; returns when it answers.
    """

    url: str
    restart: Callable[[], object]


@pytest.fixture
def shared_by_processes() -> bool:
    """Whether two processes with the same URL share limits; override it if they do not."""
    return True


@pytest.fixture
def process_backend_url(shared_by_processes: bool, request: pytest.FixtureRequest) -> str:
    """The URL of an empty backend that several processes can share."""
    if not shared_by_processes:
        pytest.skip("the limits of this backend live in one process")
    url: str = request.getfixturevalue("backend_url")
    return url


@pytest.fixture
def backend(backend_url: str) -> Iterator[Backend]:
    """An empty backend."""
    connected = connect(backend_url)
    yield connected
    connected.close()


@pytest.fixture
def line(backend: Backend) -> Iterator[Line]:
    """The line of those who wait for the backend's limits."""
    with Line(backend) as waiters:
        yield waiters


@pytest.fixture
def ttl(backend: Backend) -> float:
    """A short time to live that the backend can keep."""
    return max(0.4, backend.capabilities.min_ttl)


@pytest.fixture
def in_order(backend: Backend) -> None:
    """Leave a test out that holds a backend to an order that it does not promise."""
    if not backend.capabilities.strict_order:
        pytest.skip("this backend declares no strict order")


@pytest.fixture
def by_since(in_order: None, backend: Backend) -> None:
    """Leave a test out that holds a backend to an order that it does not promise."""
    if not backend.capabilities.by_since:
        pytest.skip("this backend declares that places go by the order of arrival")


@pytest.fixture
def restartable() -> Restartable:
    """An empty backend on a server that the test may restart."""
    pytest.skip("override `restartable` to restart the server of this backend")


@pytest.fixture
def left_for_ever() -> Callable[[], int]:
    """Return a function that counts what is in the store and will never be removed by itself."""
    pytest.skip("override `left_for_ever` to count what this backend leaves in its store")


@pytest.fixture
def how_many() -> int:
    """How many limits are used once to see what they leave behind."""
    return 1000
