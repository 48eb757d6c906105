"""A worker's pool and two beats of a Django project, with nothing but the project's own PostgreSQL to lock in."""

from __future__ import annotations

import sys

import pytest
from django.db import connections

from tasklocks import connect
from tests.contrib_django.conftest import add_database, postgresql_settings
from tests.contrib_django.projects import Project
from tests.processes import ChildProcess, eventually
from tests.servers_postgresql import new_postgresql_database

TASKS = """
import time
from celery import shared_task
from orders.models import Order
from tasklocks import current_lease, locked

@shared_task
@locked("ship")
def ship():
    before = Order.objects.filter(number=0).count()
    mine = Order.objects.create(number=0)
    time.sleep(0.2)
    mine.number = 1 if before == 0 else -1
    mine.save()
"""

SETTINGS = """
CELERY_BROKER_URL = {broker!r}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BEAT_SCHEDULER = "tasklocks.beat:LeaderScheduler"
CELERY_TASKLOCKS_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_TASKLOCKS_BEAT_TTL = 3
CELERY_BEAT_MAX_LOOP_INTERVAL = 1
"""

SCHEDULE = """
from django_celery_beat.models import IntervalSchedule, PeriodicTask
every, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
PeriodicTask.objects.create(name="ship", task="orders.tasks.ship", interval=every)
from orders.tasks import ship
for _ in range(10):
    ship.delay()
"""


@pytest.fixture
def its(postgresql_url):
    return postgresql_settings(new_postgresql_database(postgresql_url))


def test_a_pool_takes_turns_and_one_of_two_beats_ticks(its, redis_database, tmp_path):
    settings = SETTINGS.format(broker=redis_database)
    project = Project(tmp_path, {"default": its}, settings, {"orders/tasks.py": TASKS}).write()
    assert project.manage("migrate", "--run-syncdb", "--verbosity=0").returncode == 0
    project.script(SCHEDULE)
    celery = [sys.executable, "-m", "celery", "-A", "shop"]
    commands = {
        "worker": [*celery, "worker", "-c", "4", "--loglevel", "WARNING"],
        "beat-1": [*celery, "beat", "--pidfile=", "--loglevel", "WARNING"],
        "beat-2": [*celery, "beat", "--pidfile=", "--loglevel", "WARNING"],
    }
    running = {
        name: ChildProcess(command, log=tmp_path / f"{name}.log", cwd=tmp_path, env=project.environment())
        for name, command in commands.items()
    }
    alias = add_database(**its)
    try:
        assert eventually(lambda: numbers(alias).count(1) >= 14, within=60, every=0.5), logs(running)
        backend = connect(f"django://{alias}")
        assert len(backend.inspect("celery-beat").holders) == 1
        backend.close()
    finally:
        for each in running.values():
            each.stop()
    assert -1 not in numbers(alias)
    assert eventually(lambda: connected(alias) == 0, within=10), "connections were left open"
    assert "Traceback" not in logs(running)
    connections[alias].close()


def logs(running: dict[str, ChildProcess]) -> str:
    return "\n".join(f"{name}: {each.log()}" for name, each in running.items())


def numbers(alias: str) -> list[int]:
    with connections[alias].cursor() as cursor:
        return [number for (number,) in cursor.execute("SELECT number FROM orders_order").fetchall()]


def connected(alias: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with connections[alias].cursor() as cursor:
        return cursor.execute(query).fetchone()[0]
