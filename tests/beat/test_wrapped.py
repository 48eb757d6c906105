"""Other schedulers under the same lead, a beat inside a worker, and runs that must not overlap."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import datetime, timezone

import pytest

from tests.beat.beats import LEADS, STANDS_BY, entries_of
from tests.conftest import require
from tests.processes import ROOT, ChildProcess, eventually
from tests.servers_postgresql import PostgresServer, new_postgresql_database

DJANGO = "tests.apps.beat_django"


@pytest.fixture(params=["sqlite", "postgresql"])
def project(request, tmp_path, new_backend_url, field_of):
    """A Django project; entries are added and removed by `field.entry(…)` from a process beside the beats."""
    database = str(tmp_path / "django.db")
    if request.param == "postgresql":
        database = new_postgresql_database(request.getfixturevalue("postgresql_url"))
    with project_in(database, field_of, new_backend_url) as field:
        yield field


@contextmanager
def project_in(database, field_of, new_backend_url):
    env = {"TEST_DJANGO_DATABASE": database}
    with field_of(new_backend_url("sqlite"), {}, app=DJANGO, env=env, tasklocks_beat_scheduler="django") as field:

        def entry(*args: str) -> None:
            command = [sys.executable, "-m", DJANGO, *args]
            subprocess.run(command, cwd=ROOT, env={**os.environ, **field.settings.environ}, check=True, timeout=60)

        entry("migrate")
        field.entry = entry
        yield field


@pytest.mark.parametrize("project", ["sqlite", pytest.param("postgresql", marks=pytest.mark.soak)], indirect=True)
def test_a_schedule_in_a_database_goes_on_under_the_next_leader(project):
    project.entry("every-second", "1")
    project.entry("every-three", "3")
    leading, other = project.pair()
    project.wait_for_ticks(4)
    leading.process.kill()
    assert eventually(lambda: other.leads, within=6), project.logs()
    project.wait_for_ticks(5, since=time.time())
    assert project.twice() == []
    assert min(project.gaps("every-second")) > 0.6, project.gaps("every-second")
    assert min(project.gaps("every-three")) > 2.5, project.gaps("every-three")


@pytest.mark.parametrize("project", ["postgresql", pytest.param("sqlite", marks=pytest.mark.soak)], indirect=True)
def test_rows_that_are_added_and_removed_count_at_once_and_move_no_other_under_any_leader(project):
    project.entry("first", "1")
    project.entry("slow", "7")
    leading, other = project.pair()
    project.wait_for_ticks(4)
    leading.process.kill()
    assert eventually(lambda: other.leads, within=6), project.logs()
    project.entry("second", "1")
    assert eventually(lambda: entries_of(project.ticks)["second"] >= 2, within=15), project.logs()
    assert eventually(lambda: entries_of(project.ticks)["slow"] >= 2, within=20), project.logs()
    assert max(project.gaps("slow")) < 9.5, project.gaps("slow")
    project.entry("-first")
    time.sleep(2.5)
    gone = entries_of(project.ticks)["first"]
    time.sleep(2.5)
    assert entries_of(project.ticks)["first"] == gone
    assert project.twice() == []


@pytest.mark.soak
def test_beats_survive_an_outage_of_the_database_of_their_schedule(tmp_path, field_of, new_backend_url):
    require(PostgresServer)
    with PostgresServer(tmp_path / "postgresql") as server, project_in(server.url, field_of, new_backend_url) as field:
        field.entry("second", "1")
        field.pair()
        field.wait_for_ticks(3)
        server.stop()
        time.sleep(4)
        server.start()
        field.wait_for_ticks(4, since=time.time(), within=30)
        assert field.twice() == []
        assert all(beat.process.running for beat in field.beats), field.logs()


@pytest.mark.soak
def test_a_row_whose_runs_must_not_overlap_waits_for_its_run(project):
    project.entry("entry", "1", '{"tasklocks_overlap": "skip"}')
    project.start()
    project.wait_for_ticks(1)
    time.sleep(3)
    assert entries_of(project.ticks)["entry"] == 1
    assert "earlier runs are not over yet" in project.logs()


def test_redbeat_keeps_its_schedule_and_one_of_two_beats_leads(field_of, redis_database, new_backend_url):
    conf = {
        "tasklocks_beat_scheduler": "redbeat.RedBeatScheduler",
        "redbeat_redis_url": redis_database,
        "beat_max_loop_interval": 1,
    }
    with field_of(new_backend_url("redis"), {"second": {"every": 1.0}}, **conf) as field:
        leading, other = field.pair()
        field.wait_for_ticks(3)
        leading.process.kill()
        assert eventually(lambda: other.leads, within=6), field.logs()
        field.wait_for_ticks(3, since=time.time())
        assert field.twice() == []
        assert min(field.gaps("second")) > 0.6, field.gaps("second")


@pytest.mark.parametrize("pool", ["prefork", pytest.param("threads", marks=pytest.mark.soak)])
def test_of_two_workers_with_a_beat_inside_the_other_leads_when_the_first_one_stops(
    field_of, new_backend_url, tmp_path, pool
):
    with field_of(new_backend_url("sqlite"), {"second": {"every": 1.0}}) as field:
        first = with_a_beat(field, tmp_path / "first", pool)
        field.wait_for_ticks(2)
        second = with_a_beat(field, tmp_path / "second", pool)
        try:
            assert eventually(lambda: STANDS_BY in second.log(), within=20), second.log()
            first.send(signal.SIGTERM)
            assert eventually(lambda: LEADS in second.log(), within=5), first.log() + second.log()
            field.wait_for_ticks(2, since=time.time())
            assert field.twice() == []
            assert max(field.gaps("second")) < 4, field.gaps("second")
        finally:
            first.stop()
            second.stop()


def with_a_beat(field, folder, pool) -> ChildProcess:
    """Start `celery worker -B` on a queue that nobody else reads, so that the reader gets the ticks."""
    folder.mkdir()
    command = [sys.executable, "-m", "celery", "-A", field.settings.app, "worker", "-B", "--loglevel", "INFO"]
    options = ["--scheduler", "tasklocks.beat:LeaderScheduler", "-s", str(folder / "schedule"), "-P", pool, "-c", "1"]
    quiet = ["--without-gossip", "--without-mingle", "-Q", f"elsewhere-{os.getpid()}", "-n", f"{folder.name}@%h"]
    return ChildProcess([*command, *options, *quiet], log=folder / "log", env=field.settings.environ)


def test_a_worker_ends_the_runs_that_must_not_overlap_and_can_say_who_leads(field_of, new_backend_url, tmp_path):
    entries = {"entry": {"every": 0.5, "seconds": 1.6, "options": {"overlap": "skip"}}}
    with field_of(new_backend_url("sqlite"), entries) as field:
        field.reader.close()
        command = [sys.executable, "-m", "celery", "-A", field.settings.app, "worker", "--loglevel", "INFO"]
        options = ["-P", "threads", "-c", "4", "--without-gossip", "--without-mingle"]
        worker = ChildProcess([*command, *options], log=tmp_path / "worker.log", env=field.settings.environ)
        try:
            field.start()
            assert eventually(lambda: worker.log().count("succeeded") >= 3, within=30), worker.log() + field.logs()
            assert worker.log().count("received") <= worker.log().count("succeeded") + 1
            events = [word for line in worker.log().splitlines() for word in ("received", "succeeded") if word in line]
            command = [sys.executable, "-m", "celery", "-A", field.settings.app, "inspect", "beat_leader"]
            env = {**os.environ, **field.settings.environ}
            shown = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
            assert f'"leader": "process {field.beats[0].process.pid} on ' in shown.stdout, shown.stdout + shown.stderr
            assert f'"since": "{datetime.now(timezone.utc):%Y-%m-%d}' in shown.stdout
            assert all(a != b for a, b in itertools.pairwise(events)), events
        finally:
            worker.stop()
