"""`django://` keeps what every backend promises, on PostgreSQL and on SQLite."""

from __future__ import annotations

import pytest

from tasklocks.testing.conformance import *  # noqa: F403


@pytest.fixture
def backend_url(database):
    return f"django://{database}"


@pytest.fixture
def process_backend_url(backend_url):
    return backend_url
