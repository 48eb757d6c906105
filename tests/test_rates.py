"""Rates: the arithmetic alone, and `RateLimit` on every backend that has it."""

from __future__ import annotations

import math
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasklocks import ConfigurationError, LockBusy, LockTimeout, RateLimit, connect
from tasklocks.rates import RateState, parse_rate
from tasklocks.types import Pace, Refused, ReserveRequest, Slot

NOW = 1_800_000_000.0
RATED = ["memory", "sqlite", "redis", "mongodb", "etcd", "zookeeper"]


@pytest.fixture(params=RATED)
def url(request, new_backend_url):
    return new_backend_url(request.param)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("100/m", (100, 60)),
        ("5/s", (5, 1)),
        ("1000/h", (1000, 3600)),
        ("10/30s", (10, 30)),
        ("2.5/s", (2.5, 1)),
        (" 3 / 2 d ", (3, 172800)),
        ("7/month", (7, 31 * 86400)),
    ],
)
def test_rates_are_read(rate, expected):
    assert parse_rate(rate, "here") == expected


NO_RATES = ["0/s", "-1/m", "10/fortnight", "", "10", "/s", "ten/s", "1/0s", "1/-5s", "1e9/s", "1 000/s", "٣/s", "nan/s"]
NO_RATES += ["inf/s", "1/infs", "9" * 400 + "/s", "1/" + "9" * 400 + "s", "1/99999999d", "0.0000000000000000001/s"]
NO_RATES += [
    "99999999999999/s",
    None,
    5,
    True,
    math.nan,
    math.inf,
    b"1/s",
    [],
    [None],
    ["1/s", ""],
    [["1/s"]],
    {"1/s": 1},
]


@pytest.mark.parametrize("rate", NO_RATES, ids=lambda rate: repr(rate)[:30])
def test_a_bad_rate_is_refused_with_what_it_is_for(rate):
    with pytest.raises(ConfigurationError, match="rate limit 'partner'"):
        RateLimit("partner", rate, backend="memory://")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"burst": 0}, "burst"),
        ({"burst": -1}, "burst"),
        ({"burst": math.nan}, "burst"),
        ({"burst": math.inf}, "burst"),
        ({"burst": 1e300}, "burst must be at most"),
        ({"burst": True}, "burst"),
        ({"burst": "3"}, "burst"),
        ({"burst": 3, "algorithm": "sliding"}, "burst"),
        ({"algorithm": "leaky"}, "algorithm"),
        ({"timezone": "Europe/Nowhere"}, "time zone"),
    ],
)
def test_a_bad_option_is_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        RateLimit("partner", "1/s", backend="memory://", **options)


@pytest.mark.parametrize("algorithm", ["sliding", "fixed"])
def test_a_cost_that_can_never_start_is_refused(algorithm):
    with pytest.raises(ConfigurationError, match="can never be"):
        RateLimit("partner", "5/s", algorithm=algorithm, backend="memory://").reserve(6)
    with pytest.raises(ConfigurationError, match="can never be"):
        RateLimit("partner", "5/s", burst=3, backend="memory://").reserve(4)
    for cost in (0, -1, math.nan, math.inf, 1e300, True, "1", None):
        with pytest.raises(ConfigurationError, match="cost"):
            RateLimit("partner", "5/s", backend="memory://").reserve(cost)


def reserved(state, paces, now, cost=1.0, max_wait=None):
    slot = state.reserve(paces, cost, now, max_wait)
    assert isinstance(slot, Slot)
    return slot.start


def test_even_pacing_spaces_starts_evenly():
    state = RateState()
    starts = [reserved(state, [Pace(10, 1)], NOW) for _ in range(5)]
    assert starts == pytest.approx([NOW + number / 10 for number in range(5)])


def test_a_burst_may_start_at_once_and_comes_back_with_time():
    state, paces = RateState(), [Pace(10, 1, burst=3)]
    assert [reserved(state, paces, NOW) - NOW for _ in range(5)] == pytest.approx([0, 0, 0, 0.1, 0.2], abs=1e-5)
    later = NOW + 10
    assert [reserved(state, paces, later) - later for _ in range(4)] == pytest.approx([0, 0, 0, 0.1], abs=1e-5)


def test_a_start_that_costs_more_takes_a_larger_share():
    state, paces = RateState(), [Pace(10, 1)]
    assert reserved(state, paces, NOW, cost=5) == NOW
    assert reserved(state, paces, NOW) == pytest.approx(NOW + 0.5)


def test_what_is_refused_reserves_nothing():
    state, paces = RateState(), [Pace(1, 10)]
    reserved(state, paces, NOW)
    before = state.written()
    assert state.reserve(paces, 1, NOW, 5) == Refused(10)
    assert state.written() == before
    assert reserved(state, paces, NOW, max_wait=10) == NOW + 10


def test_several_rates_hold_all():
    state, paces = RateState(), [Pace(10, 1), Pace(20, 60, algorithm="sliding")]
    starts = [reserved(state, paces, NOW) for _ in range(41)]
    assert starts[19] == pytest.approx(NOW + 1.9)
    assert starts[20] >= NOW + 60
    assert starts[40] >= starts[20] + 60 - 1


@settings(deadline=None, max_examples=200)
@given(
    data=st.data(),
    limit=st.integers(1, 20),
    algorithm=st.sampled_from(["gcra", "sliding", "fixed"]),
)
def test_no_window_ever_has_more_than_the_limit(data, limit, algorithm):
    state, pace, now = RateState(), Pace(limit, 10.0, algorithm=algorithm), NOW
    starts = []
    for _ in range(60):
        now += data.draw(st.sampled_from([0.0, 0.0, 0.01, 0.5, 3.0, 12.0]))
        cost = data.draw(st.integers(1, limit)) if algorithm != "gcra" else 1
        starts.append((reserved(state, [pace], now, cost), cost))
        state = RateState.read(state.written())
    assert starts == sorted(starts, key=lambda each: each[0])
    for start, _ in starts:
        begin = start // 10 * 10 if algorithm == "fixed" else start
        # A hair less than the window: starts are sums of floats.
        used = sum(cost for at, cost in starts if begin <= at < begin + 10.0 - 1e-5)
        assert used <= limit


def test_a_sliding_window_keeps_little_and_gives_nearly_all():
    state, paces, now = RateState(), [Pace(100_000, 60, algorithm="sliding")], NOW
    count = 0
    while now < NOW + 120:
        reserved(state, paces, now, cost=100)
        count += 100
        now = max(now + 0.01, reserved(state, paces, now, cost=1))
    assert len(state.written()) < 20_000
    assert count >= 0.95 * 200_000


def test_a_quota_follows_the_calendar_over_the_change_to_summer_time():
    zone = ZoneInfo("Europe/Berlin")
    day = datetime(2027, 3, 28, 12, tzinfo=zone)  # has 23 hours
    state, paces = RateState(), [Pace(1, 86400.0, algorithm="fixed", zone=zone)]
    starts = [datetime.fromtimestamp(reserved(state, paces, day.timestamp()), zone) for _ in range(3)]
    assert starts == [day, datetime(2027, 3, 29, tzinfo=zone), datetime(2027, 3, 30, tzinfo=zone)]


def test_a_monthly_quota_starts_with_the_month():
    zone = ZoneInfo("UTC")
    state, paces = RateState(), [Pace(2, 31 * 86400.0, algorithm="fixed", zone=zone)]
    now = datetime(2027, 1, 31, 23, tzinfo=zone).timestamp()
    starts = [datetime.fromtimestamp(reserved(state, paces, now), zone) for _ in range(5)]
    assert [start.month for start in starts] == [1, 1, 2, 2, 3]
    assert all(start.day == 1 for start in starts[2:])


@pytest.mark.parametrize("algorithm", ["gcra", "sliding", "fixed"])
def test_a_pause_moves_what_is_reserved_and_what_comes(algorithm):
    state, paces = RateState(), [Pace(1, 10.0, algorithm=algorithm)]
    now = NOW
    slots = [state.reserve(paces, 1, now, None) for _ in range(3)]
    state.pause(now + 35, now)
    moved = [state.wait_of(paces, slot.start, slot.made, now) for slot in slots[1:]]
    # What has a window of a quota for itself moves by whole windows: else it could meet others in the same one.
    assert moved == pytest.approx([40, 50] if algorithm == "fixed" else [45, 55])
    last = reserved(state, paces, now) - now
    assert last >= moved[1] + 10
    state.resume(now + 5)  # after 5 of 35 seconds
    left = [state.wait_of(paces, slot.start, slot.made, now + 5) for slot in slots[1:]]
    # And the window from which it was moved may be full by now.
    assert left == pytest.approx([35, 45] if algorithm == "fixed" else [10, 20])


def test_nothing_starts_during_a_pause():
    state, paces = RateState(), [Pace(100, 1)]
    state.pause(NOW + 60, NOW)
    assert reserved(state, paces, NOW + 1) == NOW + 60


# On the backends.


def test_starts_are_spaced_evenly(url):
    limit = RateLimit("api", "50/s", backend=url)
    began = time.time()
    for _ in range(10):
        limit.acquire()
    assert time.time() - began >= 9 / 50
    connect(url).close()


def test_a_start_that_is_too_late_is_refused_and_reserves_nothing(url):
    limit = RateLimit("api", "1/h", backend=url)
    limit.acquire()
    with pytest.raises(LockBusy, match=r"rate limit 'api' \(1 in 3600 s\): the next start is in 3\.6e\+03 s"):
        limit.acquire(blocking=False)
    with pytest.raises(LockTimeout):
        limit.acquire(timeout=10)
    assert limit.reserve() == pytest.approx(3600, abs=60)
    connect(url).close()


@pytest.mark.parametrize("algorithm", ["gcra", "sliding", "fixed"])
def test_many_at_once_never_get_the_same_start(url, algorithm):
    backend, wish = connect(url), ReserveRequest("api", (Pace(1, 1, algorithm=algorithm),))
    with ThreadPoolExecutor(8) as pool:
        starts = sorted(slot.start for slot in pool.map(lambda _: backend.reserve(wish), range(60)))
    # The first one may be at any moment of a fixed window.
    assert all(later - earlier > 0.99 for earlier, later in pairwise(starts[1:]))
    assert starts[0] < starts[1]
    connect(url).close()


def test_a_pause_holds_back_who_waits_already(url):
    limit = RateLimit("api", "20/s", backend=url)
    limit.acquire()
    done = []
    thread = threading.Thread(target=lambda: (limit.acquire(), done.append(time.time())))
    paused_at = time.time()
    limit.pause(0.6)
    thread.start()
    limit.reserve()
    thread.join()
    assert done[0] - paused_at >= 0.6
    connect(url).close()


def test_a_pause_can_be_ended(url):
    limit = RateLimit("api", "20/s", backend=url)
    limit.pause(3600)
    assert limit.reserve() > 3000
    limit.resume()
    assert limit.reserve() < 10
    connect(url).close()


def test_a_rate_may_change_while_it_is_used(url):
    rate = ["1/s"]
    limit = RateLimit("api", lambda: rate[0], backend=url)
    limit.reserve()
    assert limit.reserve() == pytest.approx(1, abs=0.3)
    rate[0] = "1/m"
    limit.reserve()
    assert limit.reserve() == pytest.approx(62, abs=0.5)
    rate[0] = "1/never"
    with pytest.raises(ConfigurationError, match="api"):
        limit.reserve()
    connect(url).close()


def test_a_lock_and_a_rate_limit_of_one_name_do_not_meet(url):
    from tasklocks import Lock

    with Lock("both", backend=url):
        assert RateLimit("both", "1/h", backend=url).reserve() == 0
    connect(url).close()


def test_a_text_is_changed_by_one_at_a_time(url):
    backend = connect(url)

    def add(_):
        backend.update("count", lambda text, now: (str(int(text or 0) + 1), 60, None))
        if random.random() < 0.2:
            time.sleep(0.001)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(200)))
    assert backend.update("count", lambda text, now: (text, 60, text)) == "200"
    backend.close()


def test_a_text_is_forgotten_after_its_time(url):
    backend = connect(url)
    backend.update("brief", lambda text, now: ("here", 0.3, None))
    assert backend.update("brief", lambda text, now: (text, 0, text)) == "here"
    time.sleep(0.5)
    assert backend.update("brief", lambda text, now: (text, 0, text)) == ""
    backend.close()
