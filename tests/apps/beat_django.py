"""A Django project with django-celery-beat: its schedule stands in rows of a database, SQLite or PostgreSQL."""

from __future__ import annotations

import os
import time

import django
from django.conf import settings

from tests.apps.django_databases import database

if not settings.configured:
    settings.configure(
        DATABASES={"default": database(os.environ["TEST_DJANGO_DATABASE"])},
        INSTALLED_APPS=["django_celery_beat"],
        USE_TZ=True,
        TIME_ZONE="Europe/Berlin",
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    )
    django.setup()

from tests.apps import beat, make_app

app = make_app("tests.apps.beat_django")
app.conf.timezone = "Europe/Berlin"


@app.task(name="tests.apps.beat.tick")
def tick(entry: str, seconds: float = 0.0) -> None:
    time.sleep(seconds)


if __name__ == "__main__":
    # `python -m tests.apps.beat_django NAME SECONDS [HEADERS]` adds an entry, `-NAME` removes it; `migrate` makes the
    # tables, `fill` adds the entries that stand in the environment.
    import sys

    from django.core.management import call_command
    from django_celery_beat.models import IntervalSchedule, PeriodicTask
    from django_celery_beat.schedulers import ModelEntry

    if sys.argv[1] == "migrate":
        call_command("migrate", verbosity=0)
    elif sys.argv[1] == "fill":
        for name, entry in beat.app.conf.beat_schedule.items():
            ModelEntry.from_entry(name, app=app, **entry)
    elif sys.argv[1].startswith("-"):
        PeriodicTask.objects.get(name=sys.argv[1][1:]).delete()
    else:
        name, every, *headers = sys.argv[1:]
        interval, _ = IntervalSchedule.objects.get_or_create(every=int(every), period="seconds")
        PeriodicTask.objects.create(
            name=name, task=tick.name, interval=interval, args=f'["{name}"]', headers=(headers or ["{}"])[0]
        )
