"""One parser for every duration: seconds or a timedelta; anything else is refused by name."""

from __future__ import annotations

import math
from datetime import timedelta
from decimal import Decimal

import pytest

from tasklocks import ConfigurationError, Lock, locked
from tasklocks.durations import seconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0.0),
        (30, 30.0),
        (0.25, 0.25),
        (1e9, 1e9),
        (timedelta(0), 0.0),
        (timedelta(milliseconds=250), 0.25),
        (timedelta(days=1, seconds=1), 86401.0),
    ],
)
def test_numbers_are_seconds_and_a_timedelta_is_itself(value, expected):
    parsed = seconds(value, setting="ttl")
    assert parsed == expected
    assert type(parsed) is float


@pytest.mark.parametrize("value", ["30", "30s", "1m", "", b"30", None, True, False, [30], Decimal(30), object, 3 + 0j])
def test_what_is_no_duration_is_refused_by_name(value):
    with pytest.raises(ConfigurationError, match=r"^task t: ttl must be seconds or a timedelta, not "):
        seconds(value, setting="task t: ttl")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_duration_is_finite(value):
    with pytest.raises(ConfigurationError, match="ttl must be a finite number of seconds"):
        seconds(value, setting="ttl")


@pytest.mark.parametrize("value", [-1, -0.001, timedelta(seconds=-1), -(10**30)])
def test_a_duration_is_not_negative(value):
    with pytest.raises(ConfigurationError, match="max_wait must be at least 0 s, not -"):
        seconds(value, setting="max_wait")


def test_a_minimum_may_count_as_too_small_itself():
    assert seconds(5, setting="ttl", minimum=5) == 5.0
    with pytest.raises(ConfigurationError, match="ttl must be more than 5 s, not 5 s"):
        seconds(timedelta(seconds=5), setting="ttl", minimum=5, exclusive=True)


@pytest.mark.parametrize("option", ["ttl", "max_wait", "max_hold", "at_least", "countdown"])
@pytest.mark.parametrize("value", [-1, "5", math.nan, math.inf, True, timedelta(seconds=-1)])
def test_every_duration_of_a_task_is_checked_at_import_and_named(option, value):
    def report() -> None: ...

    with pytest.raises(ConfigurationError, match=rf"test_durations\..*report: {option} must be "):
        locked("report", **{option: value})(report)


@pytest.mark.parametrize("option", ["ttl", "max_hold"])
def test_a_time_to_hold_is_more_than_nothing(option):
    with pytest.raises(ConfigurationError, match=f"{option} must be more than 0 s, not 0 s"):
        locked("report", **{option: 0})(lambda: None)


@pytest.mark.parametrize("option", ["ttl", "max_wait", "max_hold", "at_least", "countdown"])
def test_every_duration_of_a_task_may_be_a_timedelta(option):
    locked("report", **{option: timedelta(seconds=2)})(lambda: None)


def test_the_durations_of_a_lock_are_checked_and_named():
    with pytest.raises(ConfigurationError, match=r"limit 'report': ttl must be more than 0 s, not -1 s"):
        Lock("report", ttl=timedelta(seconds=-1), backend="memory://")
    with pytest.raises(ConfigurationError, match=r"limit 'report': timeout must be seconds or a timedelta, not '1'"):
        Lock("report", backend="memory://").acquire(timeout="1")
