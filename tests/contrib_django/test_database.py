"""`django://` beside the project's own use of its database: nothing of one is felt by the other."""

from __future__ import annotations

import signal
import sys
import textwrap
import threading

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from tasklocks import BackendUnavailable, ConfigurationError, Lock, connect
from tasklocks.errors import BackendRefused
from tests.contrib_django.conftest import add_database, postgresql_settings, settings_module, sqlite_settings
from tests.contrib_django.projects import Project
from tests.line import held, look, taken
from tests.processes import ChildProcess, eventually
from tests.servers_postgresql import new_postgresql_database


@pytest.fixture
def backend(database):
    made = connect(f"django://{database}")
    yield made
    made.close()
    connections[database].close()


def write_something(alias: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('x', 'y', CURRENT_TIMESTAMP)")


def test_a_lease_outlives_the_transaction_in_which_it_was_taken(backend, database):
    with transaction.atomic(using=database):
        taken(backend, "mine")
        transaction.set_rollback(True, using=database)
    assert held(backend).holders[0].owner == "mine"


def test_a_lease_is_seen_by_others_before_the_transaction_is_over(on_postgresql):
    backend = connect(f"django://{on_postgresql}")
    with transaction.atomic(using=on_postgresql):
        write_something(on_postgresql)
        taken(backend, "mine")
        assert held(backend).holders[0].owner == "mine"


def test_nothing_is_in_the_query_log_nor_counted(backend, database):
    seen: list[str] = []

    def wrapper(execute, sql, params, many, context):
        seen.append(sql)
        return execute(sql, params, many, context)

    with CaptureQueriesContext(connections[database]) as queries, connections[database].execute_wrapper(wrapper):
        with Lock("counted", backend=backend):
            pass
        backend.inspect("counted")
    assert (len(queries), seen) == (0, [])


def test_on_sqlite_a_thread_that_waits_for_itself_is_told_so(new_database):
    alias = new_database("sqlite")
    backend = connect(f"django://{alias}?timeout=0.3")
    with transaction.atomic(using=alias):
        write_something(alias)
        with pytest.raises(BackendUnavailable, match=r"inside atomic\(\) on the same file.*django://its-name"):
            look(backend, "mine")
    taken(backend, "mine")
    backend.close()
    connections[alias].close()


def test_on_sqlite_who_looks_waits_for_who_writes(new_database):
    alias = new_database("sqlite")
    backend = connect(f"django://{alias}")
    taken(backend, "mine")
    over = threading.Event()

    def write() -> None:
        for turn in range(300):
            taken(connect(f"django://{alias}?timeout=20"), f"{turn}", "another")
            connect(f"django://{alias}?timeout=20").release("another", f"{turn}")
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    looks = 0
    while not over.is_set():
        looks += len(backend.inspect("limit").holders)
    writer.join()
    assert looks > 0
    connect(f"django://{alias}?timeout=20").close()
    backend.close()
    connections[alias].close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_missing_tables_are_named_with_what_makes_them(request, tmp_path, kind):
    if kind == "sqlite":
        alias = add_database(**sqlite_settings(tmp_path / "empty.db"))
    else:
        url = new_postgresql_database(request.getfixturevalue("postgresql_url"))
        alias = add_database(**postgresql_settings(url))
    backend = connect(f"django://{alias}")
    with pytest.raises(BackendRefused, match=f"INSTALLED_APPS and run `manage.py migrate --database={alias}`"):
        look(backend, "mine")
    backend.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("django://nosuch", "DATABASES has no 'nosuch', only"),
        ("django://{alias}?color=red", "knows the option timeout, not color"),
        ("django://{alias}?timeout=soon", "timeout must be a number of seconds, not 'soon'"),
    ],
)
def test_a_url_that_cannot_work_is_refused_at_once(tmp_path, url, message):
    alias = add_database(**sqlite_settings(tmp_path / "x.db"))
    with pytest.raises(ConfigurationError, match=message):
        connect(url.format(alias=alias))


def test_another_kind_of_database_is_refused(tmp_path):
    alias = add_database(ENGINE="django.db.backends.dummy")
    with pytest.raises(ConfigurationError, match="is of the kind unknown; django:// works with PostgreSQL and SQLite"):
        connect(f"django://{alias}")


def test_a_killed_holder_frees_its_permit_within_its_ttl(database, tmp_path):
    backend = connect(f"django://{database}")
    folder = settings_module(tmp_path / "elsewhere", database)
    script = f"""
        import os, sys, time
        sys.path.insert(0, {str(folder)!r})
        os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
        from tasklocks import Lock
        lease = Lock("limit", ttl=2, backend="django://{database}").acquire()
        time.sleep(60)
    """
    child = ChildProcess([sys.executable, "-c", textwrap.dedent(script)], log=tmp_path / "child.log")
    assert eventually(lambda: backend.inspect("limit").holders, within=20), child.log()
    held(backend)
    child.send(signal.SIGKILL)
    with Lock("limit", backend=backend).acquire(timeout=20):
        pass
    child.kill()
    backend.close()


TESTS = """
from django.test import TestCase, TransactionTestCase
from orders.models import Order
from tasklocks import Lock, connect

class InOneTransaction(TestCase):
    def test_a_lock(self):
        Order.objects.create(number=1)
        with self.assertNumQueries(0), Lock("in-a-test", backend="django://"):
            assert connect("django://").inspect("in-a-test").holders
            with self.assertRaises(Exception):
                Lock("in-a-test", backend="django://").acquire(timeout=0.2)

class InMany(TransactionTestCase):
    def test_a_lock(self):
        with Lock("in-a-test", backend="django://") as lease:
            assert lease.fencing_token
"""


@pytest.mark.parametrize("kind", ["sqlite in memory", "postgresql"])
def test_the_tests_of_a_project_lock_in_its_test_database_which_can_be_dropped(request, tmp_path, kind):
    if kind == "postgresql":
        its = postgresql_settings(new_postgresql_database(request.getfixturevalue("postgresql_url")))
        its["TEST"] = {"NAME": f"test_{its['NAME']}"}
    else:
        its = sqlite_settings(tmp_path / "site.db")
    project = Project(tmp_path / "project", {"default": its}, files={"orders/tests.py": TESTS}).write()
    done = project.manage("test", "--noinput")
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stderr
    assert not (tmp_path / "site.db").exists()
