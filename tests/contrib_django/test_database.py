"""`django://` beside the project's own use of its database: nothing of one is felt by the other."""

from __future__ import annotations

import signal
import sys
import textwrap
import threading
import time

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from tasklocks import BackendUnavailable, ConfigurationError, Lock, connect
from tasklocks.errors import BackendRefused
from tests.conftest import require
from tests.contrib_django.conftest import add_database, migrated, postgresql_settings, settings_module, sqlite_settings
from tests.contrib_django.projects import Project
from tests.line import LONG, held, look, taken
from tests.processes import ChildProcess, eventually
from tests.servers_postgresql import PostgresServer, new_postgresql_database


@pytest.fixture
def backend(database):
    made = connect(f"django://{database}")
    yield made
    made.close()
    connections[database].close()


@pytest.fixture
def on_postgresql(new_database):
    alias = new_database("postgresql")
    yield alias
    connect(f"django://{alias}").close()
    connections[alias].close()


def write_something(alias: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('x', 'y', CURRENT_TIMESTAMP)")


def seen_by_the_server(alias: str) -> int:
    """How many connections to the database there are, beside the one that asks."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return cursor.fetchone()[0]


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


def test_many_threads_share_a_few_connections_which_are_closed_at_the_end(on_postgresql):
    backend = connect(f"django://{on_postgresql}")
    threads = [threading.Thread(target=lambda n=n: taken(backend, f"{n}", f"limit-{n}")) for n in range(30)]
    most = 0
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, seen_by_the_server(on_postgresql))
    assert 1 <= max(most, seen_by_the_server(on_postgresql)) <= 4
    backend.close()
    assert eventually(lambda: seen_by_the_server(on_postgresql) == 0, within=5)


def test_a_pooler_that_forgets_what_was_prepared_costs_no_step(on_postgresql):
    """As one that gives each transaction to another connection of its own."""
    backend = connect(f"django://{on_postgresql}")
    taken(backend, "before")
    links = backend._limits()._links()
    links._idle[-1].link.run(["DEALLOCATE ALL"], 5.0)
    held(backend)
    assert backend.release("limit", "before") is True
    assert [backend.inspect("limit").holders, links._prepares] == [(), False]


def test_those_who_wait_share_one_connection_which_is_gone_after_the_close(on_postgresql):
    backend = connect(f"django://{on_postgresql}")
    ears = [backend.listen(f"waiter-{number}") for number in range(20)]
    assert seen_by_the_server(on_postgresql) == 1
    backend.close()
    assert seen_by_the_server(on_postgresql) == 1
    for ear in ears:
        ear.close()
    assert eventually(lambda: seen_by_the_server(on_postgresql) == 0, within=5)


def test_a_listening_connection_that_was_cut_is_made_anew_and_its_waiters_look(on_postgresql, line_on):
    backend = connect(f"django://{on_postgresql}")
    taken(backend, "holder")
    waiter = line_on(backend).join("waiter")
    with connections[on_postgresql].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
    began = time.monotonic()
    waiter.listener.wait(3.0, waiter.busy)
    assert time.monotonic() - began < 2.5
    assert eventually(lambda: backend.listening, within=5)
    waiter.ask()
    backend.release("limit", "holder")
    assert waiter.hears() is not None


@pytest.fixture
def line_on():
    from contextlib import ExitStack

    from tasklocks.testing.asking import Line

    with ExitStack() as stack:
        yield lambda backend: stack.enter_context(Line(backend))


def test_a_lock_excludes_also_where_transactions_see_one_moment_only(postgresql_url):
    """As they do if the server, the database or the role says `repeatable read`."""
    url = new_postgresql_database(postgresql_url)
    alias = migrated(**postgresql_settings(url))
    with connections[alias].cursor() as cursor:
        name = connections.settings[alias]["NAME"]
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    connections[alias].close()
    backend, inside, most = connect(f"django://{alias}"), [], []

    def work() -> None:
        for _ in range(10):
            with Lock("limit", backend=backend).acquire(timeout=30):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 40
    backend.close()


def test_who_is_stopped_in_the_middle_of_a_change_keeps_others_for_seconds_only(on_postgresql):
    backend = connect(f"django://{on_postgresql}?timeout=20")
    began, over, failed = threading.Event(), threading.Event(), []

    def stopped(text: str, now: float) -> tuple[str, float, None]:
        began.set()
        over.wait(15)
        return "too late", LONG, None

    def change() -> None:
        try:
            backend.update("text", stopped)
        except BackendUnavailable as error:
            failed.append(error)

    thread = threading.Thread(target=change)
    thread.start()
    began.wait()
    backend.update("text", lambda text, now: ("in time", LONG, None))
    assert not over.is_set()
    over.set()
    thread.join()
    assert len(failed) == 1
    assert backend.update("text", lambda text, now: (text, LONG, text)) == "in time"
    backend.close()


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


def test_a_server_that_cannot_be_reached_or_refuses_is_told_apart_and_no_password_is_shown(postgresql_url):
    its = postgresql_settings(new_postgresql_database(postgresql_url))
    wrong = {
        "nobody is there": ({**its, "PORT": "1"}, BackendUnavailable),
        "no such database": ({**its, "NAME": "nosuch"}, BackendRefused),
        "no such user": ({**its, "USER": "nosuch"}, BackendRefused),
    }
    for what, (settings, kind) in wrong.items():
        backend = connect(f"django://{add_database(**{**settings, 'PASSWORD': 's3cret'})}")
        with pytest.raises(BackendUnavailable) as caught:
            look(backend, "mine")
        assert type(caught.value) is kind, what
        assert "s3cret" not in f"{caught.value!r} {backend!r}"


def test_a_frozen_server_is_given_up_in_time(tmp_path):
    require(PostgresServer)
    with PostgresServer(tmp_path / "server") as server:
        backend = connect(f"django://{migrated(**postgresql_settings(server.url))}?timeout=1")
        taken(backend, "before")
        server.pause()
        try:
            began = time.monotonic()
            with pytest.raises(BackendUnavailable, match=r"did not answer|cannot be used"):
                look(backend, "mine")
            assert time.monotonic() - began < 10
        finally:
            server.resume()
        assert eventually(lambda: _answers(backend), within=20)
        backend.close()


def _answers(backend) -> bool:
    try:
        held(backend)
    except BackendUnavailable:
        return False
    return True


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


def test_psycopg2_does_it_too(postgresql_url, tmp_path):
    pytest.importorskip("psycopg2")
    its = postgresql_settings(new_postgresql_database(postgresql_url))
    no_psycopg_3 = {"shop/settings.py": "import sys\nsys.modules['psycopg'] = None\n" + SETTINGS.format(its=its)}
    project = Project(tmp_path, {}, files=no_psycopg_3).write()
    migrated_first = project.manage("migrate", "tasklocks", "--verbosity=0")
    assert migrated_first.returncode == 0, migrated_first.stderr
    output = project.script(
        """
        import threading, time
        from django.db import connection
        from tasklocks import Lock, RateLimit, connect
        print(connection.Database.__name__)
        inside, most = [], []
        def work():
            for _ in range(10):
                with Lock("limit", backend="django://").acquire(timeout=30) as lease:
                    lease.renew()
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
        threads = [threading.Thread(target=work) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print(most == [1] * 40)
        print(RateLimit("rate", "100/s", backend="django://").reserve() >= 0)
        connect("django://").close()
        """
    )
    assert output == "psycopg2\nTrue\nTrue\n"


SETTINGS = """
SECRET_KEY = "for tests only"
INSTALLED_APPS = ["tasklocks.contrib.django"]
USE_TZ = True
DATABASES = {{"default": {its!r}}}
CELERY_BROKER_URL = "memory://"
"""
