"""An app without a worker, and a limit that is busy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from celery import Celery

from tasklocks import Lock, connect
from tasklocks.backends import Backend
from tests.local import local_app


@pytest.fixture
def app(new_backend_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Celery:
    """An app whose tasks run where they are called."""
    return local_app(monkeypatch, new_backend_url("memory"), task_always_eager=True)


@pytest.fixture
def backend(app: Celery) -> Backend:
    """Where the app's limits are."""
    return connect(app.conf.tasklocks_url)


@pytest.fixture
def busy(backend: Backend) -> Iterator[None]:
    """The limit "report" has a holder, a stranger to the caller, that does not end by itself."""
    lease = Lock("report", backend=backend).acquire()
    yield
    lease.release()
