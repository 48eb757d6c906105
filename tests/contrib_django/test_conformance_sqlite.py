"""`django://` keeps what every backend promises, on SQLite."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contrib_django.suite import *  # noqa: F403


@pytest.fixture
def database(new_database: Callable[[str], str]) -> str:
    return new_database("sqlite")
