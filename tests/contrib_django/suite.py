"""The fixtures through which the public suite sees `django://`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
from django.db import connections

from tasklocks import clock, connect
from tasklocks.testing.conformance import *  # noqa: F403
from tests.contrib_django.conftest import settings_module
from tests.leftovers import A_WHILE, FEW
from tests.line import free, taken

_TABLES = ["limits", "leases", "waiters", "texts"]


@pytest.fixture
def backend_url(database: str) -> str:
    return f"django://{database}"


@pytest.fixture
def process_backend_url(backend_url: str) -> str:
    return backend_url


@pytest.fixture
def how_many() -> int:
    return 100


@pytest.fixture
def left_for_ever(database: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count what is left when other limits were used for some time, later."""

    def count() -> int:
        db = connections[database]
        _let_pass(db, monkeypatch)
        backend = connect(f"django://{database}")
        for turn in range(1100):
            free(backend)
            if turn % 50 == 0 and _rows(db) <= FEW:
                break
        left = _rows(db)
        db.close()
        return left

    return count


def _let_pass(db, patch: pytest.MonkeyPatch) -> None:
    """Make what is there older; on SQLite that is what the host's clock tells."""
    if db.vendor == "sqlite":
        now = clock.now
        patch.setattr(clock, "now", lambda: now() + A_WHILE)
        return
    with db.cursor() as cursor:
        cursor.execute(f"UPDATE tasklocks_limits SET used_at = used_at - {A_WHILE}")
        cursor.execute(f"UPDATE tasklocks_leases SET expires = expires - {A_WHILE}")
        cursor.execute(f"UPDATE tasklocks_waiters SET until = until - {A_WHILE}")


def _rows(db) -> int:
    with db.cursor() as cursor:
        counts = [cursor.execute(f"SELECT count(*) FROM tasklocks_{table}").fetchone()[0] for table in _TABLES]
    return sum(counts)


def test_a_process_that_shares_nothing_but_the_url_sees_the_same_limits(database, tmp_path):
    """Here: the URL and the project's settings, which say what it means."""
    backend = connect(f"django://{database}")
    taken(backend, "we")
    show = f"print(connect('django://{database}').inspect('limit').holders[0].owner)"
    script = f"import django; django.setup(); from tasklocks import connect; {show}"
    folder = settings_module(tmp_path / "elsewhere", database)
    environ = {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
        "DJANGO_SETTINGS_MODULE": "site_settings",
    }
    command = [sys.executable, "-W", "error", "-c", script]
    seen = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (seen.stdout, seen.stderr) == ("we\n", "")
    backend.close()
