"""Django in this process: its databases come and go with the tests."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("django")

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from tasklocks import connect
from tests.servers_postgresql import new_postgresql_database

_numbers = itertools.count(1)

if not settings.configured:
    settings.configure(
        SECRET_KEY="for tests only",
        DATABASES={},
        INSTALLED_APPS=["tasklocks.contrib.django"],
        USE_TZ=True,
    )
    django.setup()


def add_database(**its: object) -> str:
    """Let Django know one more database; return its alias."""
    alias = f"db{next(_numbers)}"
    known = connections.configure_settings({"default": {}, alias: its})
    connections.settings[alias] = known[alias]
    return alias


def postgresql_settings(url: str) -> dict[str, object]:
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.strip("/"),
        "USER": parts.username,
        "PASSWORD": parts.password or "",
        "HOST": parts.hostname,
        "PORT": str(parts.port),
    }


def sqlite_settings(path: Path) -> dict[str, object]:
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(path)}


def migrated(**its: object) -> str:
    """Add a database and make its tables; return its alias."""
    alias = add_database(**its)
    call_command("migrate", "tasklocks", database=alias, verbosity=0)
    connections[alias].close()
    return alias


def settings_module(folder: Path, alias: str) -> Path:
    """Write settings that know one database of this process, as a module `site_settings`; return where it is."""
    folder.mkdir()
    its = {key: value for key, value in connections.settings[alias].items() if isinstance(value, (str, dict, int))}
    databases = {"default": its, alias: its}
    apps = ["tasklocks.contrib.django"]
    (folder / "site_settings.py").write_text(f"INSTALLED_APPS = {apps!r}\nDATABASES = {databases!r}\nUSE_TZ = True\n")
    return folder


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with the tables, to be copied."""
    path = tmp_path_factory.mktemp("django") / "migrated.db"
    migrated(**sqlite_settings(path))
    return path


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql_url: str) -> str:
    """The alias of a PostgreSQL database with the tables."""
    return migrated(**postgresql_settings(new_postgresql_database(postgresql_url)))


@pytest.fixture
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Return a function that gives the alias of an empty database of a kind."""

    def sqlite() -> str:
        path = tmp_path / f"django-{next(_numbers)}.db"
        shutil.copy(request.getfixturevalue("migrated_file"), path)
        # Nobody pulls a plug here. Versions of Django before 5.1 do not know the option.
        quick = {"init_command": "PRAGMA synchronous = OFF"} if django.VERSION >= (5, 1) else {}
        return add_database(**sqlite_settings(path), OPTIONS=quick)

    def postgresql() -> str:
        first = request.getfixturevalue("migrated_postgresql")
        with connections[first].cursor() as cursor:
            cursor.execute("TRUNCATE tasklocks_limits, tasklocks_leases, tasklocks_waiters, tasklocks_texts")
        connections[first].close()
        return add_database(**{key: value for key, value in connections.settings[first].items() if key.isupper()})

    makers = {"sqlite": sqlite, "postgresql": postgresql}
    return lambda kind: makers[kind]()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> Iterator[str]:
    """The alias of an empty database, of each kind in turn."""
    return new_database(request.param)


@pytest.fixture
def on_postgresql(new_database: Callable[[str], str]) -> Iterator[str]:
    """The alias of an empty PostgreSQL database, whose connections are closed at the end."""
    alias = new_database("postgresql")
    yield alias
    connect(f"django://{alias}").close()
    connections[alias].close()
