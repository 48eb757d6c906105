"""Pauses of rate limits: all that waits moves, on every backend, and the later end counts."""

from __future__ import annotations

import math
import time
from datetime import date, datetime, timedelta, timezone
from email.utils import format_datetime
from itertools import pairwise

import pytest

from tasklocks import ConfigurationError, RateLimit, connect, current_lease, pause, rate_limited, resume
from tasklocks.durations import until_when
from tasklocks.ratelimit import slot_left
from tasklocks.rates import RateState
from tasklocks.types import Pace, Refused, ReserveRequest
from tests.test_rates import RATED

NOW = 1_800_000_000.0
IN_A_MINUTE = datetime.fromtimestamp(NOW + 60, timezone.utc)
BERLIN_SUMMER = timezone(timedelta(hours=2))


@pytest.fixture(params=RATED)
def backend(request, new_backend_url):
    made = connect(new_backend_url(request.param))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("length", "until"),
    [
        (60, None),
        (60.0, None),
        (timedelta(minutes=1), None),
        ("60", None),
        (" 60 ", None),
        (format_datetime(IN_A_MINUTE, usegmt=True), None),
        (None, IN_A_MINUTE),
        (None, IN_A_MINUTE.astimezone(BERLIN_SUMMER)),
    ],
)
def test_a_pause_is_a_length_a_moment_or_a_retry_after_header(length, until):
    assert until_when(length, until, setting="pause")(NOW) == NOW + 60


@pytest.mark.parametrize(
    ("length", "until", "message"),
    [
        (None, None, "either a length or until="),
        (5, IN_A_MINUTE, "either a length or until="),
        (None, IN_A_MINUTE.replace(tzinfo=None), "until must be a datetime with a time zone"),
        (None, date(2027, 1, 1), "until must be a datetime with a time zone"),
        (None, NOW, "until must be a datetime with a time zone"),
        (IN_A_MINUTE, None, "must be seconds or a timedelta"),
        ("soon", None, "a Retry-After is seconds or a date, not 'soon'"),
        ("", None, "a Retry-After is seconds or a date"),
        ("-5", None, "a Retry-After is seconds or a date"),
        ("1.5", None, "a Retry-After is seconds or a date"),
        ("Fri, 15 Jan 2027 08:01:00 -0000", None, "with a time zone"),
        ("9" * 400, None, "finite"),
        (-1, None, "at least 0"),
        (math.nan, None, "finite"),
        (math.inf, None, "finite"),
        (1e300, None, "at most 1e"),
    ],
)
def test_what_is_no_pause_is_refused_with_the_limit_that_it_was_for(length, until, message):
    with pytest.raises(ConfigurationError, match=rf"rate limit 'partner': pause.*{message}"):
        pause("partner", length, until=until, backend="memory://")
    with pytest.raises(ConfigurationError, match=message):
        RateLimit("partner", "1/s", backend="memory://").pause(length, until=until)


@pytest.mark.parametrize("algorithm", ["gcra", "sliding", "fixed"])
def test_by_its_name_alone_all_that_waits_moves_and_nothing_starts_before_the_end(backend, algorithm):
    paces = (Pace(1, 2.0, algorithm=algorithm),)
    wish = ReserveRequest("partner", paces)
    slots = [backend.reserve(wish) for _ in range(5)]
    pause("partner", 40, backend=backend)
    paused_at = time.time()
    # The second one may have come before the pause: a fixed window can begin at any moment.
    left = [slot_left(backend, "partner", paces, slot) for slot in slots[2:]]
    assert all(each >= 38 for each in left)
    assert all(later - earlier == pytest.approx(2, abs=0.5) for earlier, later in pairwise(left))
    latest = backend.reserve(wish)
    assert time.time() - paused_at + latest.wait >= left[-1] + 1
    refused = backend.reserve(ReserveRequest("partner", paces, max_wait=30))
    assert isinstance(refused, Refused)


def test_the_later_end_counts_and_resuming_ends_it_whoever_made_it(backend):
    limit = RateLimit("partner", "100/s", backend=backend)
    pause("partner", until=datetime.now(timezone.utc) + timedelta(seconds=300), backend=backend)
    limit.pause(5)
    assert limit.reserve() == pytest.approx(300, abs=20)
    limit.pause("900")
    pause("partner", until=datetime.now(timezone.utc) + timedelta(seconds=60), backend=backend)
    limit.pause(0)
    assert limit.reserve() == pytest.approx(900, abs=20)
    resume("partner", backend=backend)
    assert limit.reserve() < 10
    resume("partner", backend=backend)
    assert limit.reserve() < 10


def test_a_pause_of_a_limit_that_was_never_used_holds_its_first_start_back(backend):
    pause("new", 50, backend=backend)
    assert RateLimit("new", "1/s", backend=backend).reserve() == pytest.approx(50, abs=10)


def test_a_pause_that_is_over_already_changes_nothing(backend):
    pause("partner", until=datetime(2020, 1, 1, tzinfo=timezone.utc), backend=backend)
    assert RateLimit("partner", "1/s", backend=backend).reserve() == 0


def test_a_pause_outlasts_all_that_was_reserved_before_it(backend):
    """What is kept about a limit is kept as long as the pause, not only until its last start."""
    limit = RateLimit("partner", "1/s", backend=backend)
    limit.reserve()
    limit.pause(86400 * 40)
    assert limit.reserve() == pytest.approx(86400 * 40, rel=0.01)


@pytest.mark.parametrize("algorithm", ["gcra", "sliding", "fixed"])
def test_who_comes_a_moment_late_into_a_pause_does_not_start_in_it(algorithm):
    state, paces = RateState(), [Pace(1, 10.0, algorithm=algorithm)]
    slot = state.reserve(paces, 1, NOW, None)
    state.pause(NOW + 60.1, NOW + 0.1)
    begun = state.begin(paces, 1, slot, NOW + 0.2, 0.25)
    again = begun if algorithm == "gcra" else state.reserve(paces, 1, NOW + 0.2, None)
    assert begun is None or algorithm == "gcra"
    assert again.start >= NOW + 60.1


def test_a_changed_algorithm_counts_anew_and_breaks_nothing(backend):
    for algorithm in ("gcra", "sliding", "fixed", "gcra", "fixed", "sliding"):
        limit = RateLimit("partner", "1/d", algorithm=algorithm, backend=backend)
        assert limit.reserve() == 0
        pause("partner", 0.1, backend=backend)
        resume("partner", backend=backend)
        assert limit.reserve() > 0


def test_a_task_pauses_its_limit_until_a_moment_or_as_a_header_says():
    @rate_limited("timed", "100/s", backend="memory://")
    def call(length, until):
        current_lease().pause(length, until=until)

    call(None, datetime.now(timezone.utc) + timedelta(seconds=200))
    assert RateLimit("timed", "100/s", backend="memory://").reserve() == pytest.approx(200, abs=5)
    resume("timed", backend="memory://")
    time.sleep(0.05)
    call("400", None)
    assert RateLimit("timed", "100/s", backend="memory://").reserve() == pytest.approx(400, abs=5)
    resume("timed", backend="memory://")
    time.sleep(0.05)
    with pytest.raises(ConfigurationError, match="with a time zone"):
        call(None, datetime(2030, 1, 1))
