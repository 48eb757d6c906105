"""`box://` keeps what every backend promises."""

import pytest

from tasklocks.testing.conformance import *  # noqa: F403


@pytest.fixture
def backend_url(tmp_path):
    return f"box://{tmp_path.name}"


@pytest.fixture
def shared_by_processes():
    return False
