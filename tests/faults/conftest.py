"""Each store in turn, with servers of the test's own, and everything here marked `faults`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasklocks.backends import Backend
from tests.conftest import SERVED_BACKENDS, SERVERS, require
from tests.faults.stores import STORES, Store
from tests.servers import Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.timeout(180))


@pytest.fixture(params=SERVED_BACKENDS)
def kind(request: pytest.FixtureRequest) -> str:
    require(SERVERS[request.param])
    return request.param


@pytest.fixture
def store(kind: str) -> Store:
    return STORES[kind]


@pytest.fixture
def server(store: Store, tmp_path: Path) -> Iterator[Server]:
    with store.server(tmp_path / "server") as running:
        yield running


@pytest.fixture
def trio(store: Store, tmp_path: Path) -> Iterator[Any]:
    with store.trio(tmp_path / "members") as running:
        yield running


@pytest.fixture
def opened(store: Store) -> Iterator[Callable[[str], Backend]]:
    """A function that makes a backend with clients of its own; all are closed after the test."""
    made: list[Backend] = []

    def make(url: str) -> Backend:
        made.append(store.backend(url))
        return made[-1]

    yield make
    for each in made:
        each.close()
