"""`django://` on PostgreSQL: its connections, whoever is in their way, and the drivers."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack

import pytest
from django.db import connections

from tasklocks import BackendUnavailable, Lock, connect
from tasklocks.errors import BackendRefused
from tasklocks.testing.asking import Line
from tests.conftest import require
from tests.contrib_django.conftest import add_database, migrated, postgresql_settings
from tests.contrib_django.projects import Project
from tests.line import LONG, held, look, taken
from tests.processes import eventually
from tests.servers_postgresql import PostgresServer, new_postgresql_database


def seen_by_the_server(alias: str) -> int:
    """How many connections to the database there are, beside the one that asks."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return cursor.fetchone()[0]


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


@pytest.fixture
def line_on():
    with ExitStack() as stack:
        yield lambda backend: stack.enter_context(Line(backend))


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


SETTINGS = """
SECRET_KEY = "for tests only"
INSTALLED_APPS = ["tasklocks.contrib.django"]
USE_TZ = True
DATABASES = {{"default": {its!r}}}
CELERY_BROKER_URL = "memory://"
"""


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
