"""Due times are the same whoever computes them, and those of the schedule itself, also over a change of the clocks."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.schedules import crontab, schedule
from django_celery_beat.tzcrontab import TzAwareCrontab

from tasklocks.beat.due import due_after, missed_until

UTC = timezone.utc
ZONE = "Europe/Berlin"
SPRING = datetime(2026, 3, 28, 12, tzinfo=UTC)  # clocks go from 02:00 to 03:00 on the 29th
AUTUMN = datetime(2026, 10, 24, 12, tzinfo=UTC)  # and from 03:00 back to 02:00 on the 25th


@pytest.fixture
def app():
    made = Celery("due", set_as_current=False)
    made.conf.timezone = ZONE
    yield made
    made.close()


def test_an_interval_is_due_exactly_one_interval_after_its_last_run(app):
    last = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert due_after(schedule(2.5, app=app), last) == last + timedelta(seconds=2.5)


def test_a_relative_interval_is_due_at_its_round_time(app):
    last = datetime(2026, 5, 1, 12, 34, 56, tzinfo=UTC)
    assert due_after(schedule(3600.0, relative=True, app=app), last) == datetime(2026, 5, 1, 13, tzinfo=UTC)


CRONS = ["30 2 * * *", "0 * * * *", "*/20 2-3 * * *", "0 3 * * sun", "15 1 29,25 * *"]


@pytest.mark.parametrize("began", [SPRING, AUTUMN], ids=["spring", "autumn"])
@pytest.mark.parametrize("cron", CRONS)
def test_a_crontab_over_a_clock_change_ticks_when_celery_alone_would(app, began, cron):
    ours = missed_until(crontab(**fields(cron), app=app), began, began + timedelta(days=2), 1000)
    assert ours == alone(lambda now: crontab(**fields(cron), app=app, nowfun=now), began, began + timedelta(days=2))
    assert ours


@pytest.mark.parametrize("began", [SPRING, AUTUMN], ids=["spring", "autumn"])
@pytest.mark.parametrize("cron", CRONS)
def test_a_crontab_of_a_database_with_a_zone_of_its_own_ticks_when_it_would_alone(app, began, cron):
    class Row(TzAwareCrontab):
        def nowfunc(self):
            return self.now_is().astimezone(self.tz)

    def row(now=lambda: began):
        Row.now_is = staticmethod(now)
        return Row(**fields(cron), tz=ZoneInfo(ZONE), app=app)

    app.conf.timezone = "Asia/Tokyo"
    ours = missed_until(row(), began, began + timedelta(days=2), 1000)
    assert ours == alone(row, began, began + timedelta(days=2))
    assert ours


def fields(cron: str) -> dict[str, str]:
    """Return the fields of a crontab line by name; Celery's own order of them is another."""
    names = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
    return dict(zip(names, cron.split(), strict=True))


def alone(crontab_with: Callable[..., crontab], began: datetime, ended: datetime) -> list[datetime]:
    """Ask Celery's own schedule every minute, as a beat would, with its clock set; return when it said yes."""
    now = began
    its = crontab_with(lambda: now.astimezone(ZoneInfo(ZONE)))
    last, ticks = began, []
    while now <= ended:
        if its.is_due(last.astimezone(ZoneInfo(ZONE))).is_due:
            ticks.append(now)
            last = now
        now += timedelta(minutes=1)
    return ticks


def test_the_zone_in_which_the_last_run_is_written_does_not_matter(app):
    its = crontab("30", "2", "*", "*", "*", app=app)
    answers = {due_after(its, AUTUMN.astimezone(ZoneInfo(zone))) for zone in (ZONE, "UTC", "Asia/Tokyo")}
    assert len(answers) == 1


def test_a_kind_of_schedule_of_its_own_is_due_at_a_whole_second(app):
    class Later(schedule):
        def remaining_estimate(self, last_run_at):
            return timedelta(seconds=100)

    due = due_after(Later(5.0, app=app), datetime.now(UTC))
    assert due.microsecond == 0
    assert abs((due - datetime.now(UTC)).total_seconds() - 100) < 2


def test_of_what_was_missed_the_newest_are_kept_and_a_long_absence_costs_nothing(app):
    now = datetime(2026, 5, 1, tzinfo=UTC)
    missed = missed_until(schedule(1.0, app=app), now - timedelta(days=3650), now, 100)
    assert len(missed) == 100
    assert missed[-1] == now
    assert missed[0] == now - timedelta(seconds=99)
