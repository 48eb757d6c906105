"""How long a busy task stays away: within bounds, in proportion to its place, or exactly as its author says."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
import tenacity
from celery import Celery

from tasklocks import ConfigurationError, locked
from tasklocks.backends.base import moving_average
from tasklocks.backoff import LONGEST, SHORTEST, adaptive, check_countdown, seconds_away, when_unreachable
from tasklocks.celery.conf import settings_of
from tasklocks.types import Busy, Holder

NOW = 1_000_000.0
DRAWS = 300
JITTER = 0.15


def busy(*held: float, ahead: int = 0, hold: float | None = None, capacity: int = 1, ends: float | None = 30.0) -> Busy:
    """A limit whose permits are held for so long already."""
    holders = tuple(Holder(f"h{i}", 1, i, NOW - seconds, 30.0, "") for i, seconds in enumerate(held))
    return Busy(ends, ahead, holders, capacity, hold, server_time=NOW, asked_at=0.0)


def draws(answer: Busy, waits: int = 0, permits: int = 1) -> list[float]:
    return [adaptive(answer, waits, permits) for _ in range(DRAWS)]


def typical(answer: Busy, waits: int = 0, permits: int = 1) -> float:
    """The middle of the jitter."""
    found = draws(answer, waits, permits)
    return (min(found) + max(found)) / 2


@pytest.fixture(autouse=True)
def _same_draws_every_time() -> Iterator[None]:
    state = random.getstate()
    random.seed(20)
    yield
    random.setstate(state)


def away(countdown: object, answer: Busy | None = None, waits: int = 0) -> float:
    return seconds_away(check_countdown(countdown, "task t"), answer, waits, 1, "task t")


def test_the_adaptive_countdown_stays_within_its_bounds_whatever_the_backend_says():
    chance = random.Random(7)
    for _ in range(2000):
        ages = [chance.choice([-5.0, 0.0, 0.001, 1.0, 1e6]) for _ in range(chance.randrange(11))]
        answer = busy(
            *ages,
            ahead=chance.choice([0, 1, 10, 10**6]),
            hold=chance.choice([None, 0.0, 1e-6, 0.1, 60.0, 1e9]),
            capacity=chance.choice([1, 2, 100]),
            ends=chance.choice([None, 0.0, 0.01, 30.0]),
        )
        waits, permits = chance.choice([0, 1, 50, 10**6]), chance.choice([1, 2, 100])
        assert SHORTEST <= adaptive(answer, waits, permits) <= LONGEST, answer


def test_the_head_of_the_line_comes_back_when_the_permit_is_usually_free():
    found = draws(busy(0.0, hold=10.0))
    assert 10 * (1 - JITTER) <= min(found) < max(found) <= 10 * (1 + JITTER)


def test_the_longer_a_permit_is_held_already_the_sooner_the_head_comes_back():
    ages = [0.0, 2.0, 4.0, 6.0, 7.5]
    found = [typical(busy(age, hold=10.0)) for age in ages]
    assert found == sorted(found, reverse=True)
    assert found[0] > 2 * found[-1]


def test_the_further_back_the_longer_away():
    found = [typical(busy(0.0, hold=1.0, ahead=ahead)) for ahead in (1, 2, 4, 8, 16, 32)]
    assert found == sorted(found)
    assert found[-1] > 8 * found[0]


def test_one_who_is_far_back_looks_again_before_its_turn():
    turn = 100 * 1.0 + 1.0
    assert max(draws(busy(0.0, hold=1.0, ahead=100))) < turn


def test_more_permits_serve_a_line_faster():
    found = [typical(busy(0.0, hold=1.0, ahead=60, capacity=capacity)) for capacity in (1, 2, 6, 30)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 10 * found[-1]


def test_a_wish_for_many_permits_waits_longer():
    answer = busy(0.0, hold=1.0, ahead=60, capacity=30)
    assert typical(answer, permits=1) < typical(answer, permits=10) < typical(answer, permits=30)


def test_an_estimate_far_beyond_what_was_waited_is_not_believed():
    answer = busy(0.0, hold=8.0, ahead=100)
    for waited, longest in ((0.0, 3.0), (2.0, 3.0), (10.0, 10.0), (60.0, 60.0)):
        found = [adaptive(answer, 5, 1, waited) for _ in range(DRAWS)]
        assert max(found) <= longest * (1 + JITTER)
        assert min(found) >= longest * (1 - JITTER)


def test_one_long_hold_is_forgotten_after_a_few_short_ones():
    average = moving_average(None, 10.0)
    for _ in range(8):
        average = moving_average(average, 0.05)
    assert average < 0.1
    assert moving_average(0.05, 10.0) < 2.1


def test_waiters_spread_out():
    assert len({round(seconds, 4) for seconds in draws(busy(0.0, hold=10.0, ahead=5))}) > DRAWS / 2


def test_a_limit_of_which_nothing_is_known_is_asked_ever_more_rarely():
    found = [typical(busy(0.0, ends=None), waits=waits) for waits in range(9)]
    assert found[0] < 0.15
    assert found == sorted(found)
    assert found[-1] > 10
    assert typical(busy(0.0, ends=None), waits=10**6) == pytest.approx(found[-1], rel=0.05)


def test_a_limit_of_which_nothing_is_known_is_asked_when_its_lease_ends_at_the_latest():
    assert max(draws(busy(0.0, ends=1.0), waits=50)) <= 1 + JITTER


def test_a_holder_over_its_usual_time_is_looked_at_ever_more_rarely_but_not_after_its_lease():
    found = [typical(busy(held, hold=1.0, ends=30.0)) for held in (1.0, 5.0, 20.0, 40.0)]
    assert found == sorted(found)
    assert max(draws(busy(1000.0, hold=1.0, ends=4.0))) <= 4 * (1 + JITTER)


def test_a_backend_that_does_not_answer_is_asked_ever_more_rarely_within_bounds():
    longest = [max(when_unreachable(waits) for _ in range(DRAWS)) for waits in range(8)]
    assert longest == sorted(longest)
    every = [when_unreachable(waits) for waits in (0, 1, 5, 10, 10**6) for _ in range(DRAWS)]
    assert 0.5 <= min(every) < max(every) <= 30
    assert away(None, None, waits=3) <= 8


@pytest.mark.parametrize(("countdown", "expected"), [(0, 0.0), (2, 2.0), (0.5, 0.5), (timedelta(minutes=2), 120.0)])
def test_a_countdown_in_seconds_is_kept_as_it_is(countdown, expected):
    assert {away(countdown, busy(5.0, hold=1.0, ahead=9), waits) for waits in range(5)} == {expected}


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (tenacity.wait_fixed(3), [3, 3, 3, 3]),
        (tenacity.wait_fixed(timedelta(seconds=3)), [3, 3, 3, 3]),
        (tenacity.wait_none(), [0, 0, 0, 0]),
        (tenacity.wait_incrementing(start=1, increment=2), [1, 3, 5, 7]),
        (tenacity.wait_exponential(multiplier=1, max=5), [1, 2, 4, 5]),
        (tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(9)), [1, 9, 9, 9]),
        (tenacity.wait_fixed(1) + tenacity.wait_fixed(2), [3, 3, 3, 3]),
        (tenacity.wait_incrementing(start=2, increment=-1), [2, 1, 0, 0]),
    ],
)
def test_a_tenacity_strategy_counts_the_waits(strategy, expected):
    assert [away(strategy, busy(), waits) for waits in range(4)] == expected


def test_a_random_tenacity_strategy_stays_in_its_range():
    found = [away(tenacity.wait_random(1, 2), busy(), 3) for _ in range(DRAWS)]
    assert 1 <= min(found) < max(found) <= 2


def test_a_function_is_asked_with_the_number_of_this_attempt():
    assert [away(lambda state: state.attempt_number * 2, busy(), waits) for waits in range(3)] == [2, 4, 6]
    assert away(lambda state: timedelta(minutes=1), busy()) == 60
    assert away(lambda state, extra=5: extra, busy()) == 5
    assert away(lambda state: -1, busy()) == 0


@pytest.mark.parametrize("answer", [None, "5", True, math.nan, math.inf, [1]])
def test_a_function_that_answers_no_time_is_named_with_its_task(answer):
    with pytest.raises(ConfigurationError, match="task t: what countdown answers must be "):
        away(lambda state: answer, busy())


@pytest.mark.parametrize(
    "countdown",
    ["5", b"5", [5], object(), lambda: 5, lambda a, b: 5, tenacity.wait_fixed, tenacity.wait_exponential, int, float],
)
def test_what_cannot_say_how_long_is_refused_at_import_with_the_tasks_name(countdown):
    def report() -> None: ...

    with pytest.raises(ConfigurationError, match=r"report: countdown must be seconds, a timedelta or a tenacity wait"):
        locked("report", countdown=countdown)(report)


@pytest.mark.parametrize("countdown", ["5", -1, math.nan, True, tenacity.wait_fixed])
def test_an_apps_countdown_is_checked_by_its_setting(countdown):
    app = Celery("backoff", set_as_current=False)
    app.conf.tasklocks_countdown = countdown
    with pytest.raises(ConfigurationError, match="tasklocks_countdown"):
        settings_of(app)


def test_a_clock_that_runs_behind_its_holders_harms_nothing():
    ahead_of_us = replace(busy(0.0, hold=1.0), server_time=NOW - 3600)
    assert SHORTEST <= adaptive(ahead_of_us, 0, 1) <= LONGEST
