"""What wrong clocks cost a rate: on etcd, which tells no time, no more than what the clocks of the hosts are apart.

The clocks are the test's: time passes when it says so, and each host reads it with its own error.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tasklocks import connect
from tasklocks.types import Pace, ReserveRequest, Slot

HAIR = 1e-5


class Hosts:
    """Hosts that read one true time with an error each; the test speaks for one of them at a time."""

    def __init__(self) -> None:
        self.true_time = time.time()
        self.error = 0.0

    def read(self) -> float:
        return self.true_time + self.error

    @contextmanager
    def one_with(self, error: float) -> Iterator[None]:
        self.error = error
        yield
        self.error = 0.0


@pytest.fixture
def hosts(monkeypatch):
    made = Hosts()
    monkeypatch.setattr(time, "time", made.read)
    return made


@pytest.fixture(params=["etcd"])
def shared(request, new_backend_url):
    made = connect(new_backend_url(request.param))
    yield made
    made.close()


def most_in(times: list[float], length: float) -> int:
    return max(sum(begin <= at < begin + length - HAIR for at in times) for begin in times)


@pytest.mark.parametrize("errors", [(0.0, 0.0, 0.0), (0.0, 0.6, -0.3), (0.0, 0.0, 2.5)], ids=repr)
@pytest.mark.parametrize("algorithm", ["gcra", "sliding", "fixed"])
def test_hosts_whose_clocks_differ_exceed_a_window_by_what_the_difference_is_worth(shared, hosts, errors, algorithm):
    pace, draw = Pace(10, 1.0, algorithm=algorithm), random.Random(f"{algorithm} {errors}")
    apart, started = max(errors) - min(errors), []
    # Those that are behind must wait for those that are ahead; else only these would ever start anything.
    wish = ReserveRequest("partner", (pace,), max_wait=apart + 0.2)
    for _ in range(400):
        hosts.true_time += draw.choice([0.0, 0.01, 0.05])
        with hosts.one_with(draw.choice(errors)):
            answer = shared.reserve(wish)
        if isinstance(answer, Slot):
            started.append(hosts.true_time + answer.wait)
    # What lies in one true second lies in so many of theirs; quotas of whole seconds have edges, besides.
    whole = 1 + -(-apart // 1) + (algorithm == "fixed")
    allowed = 10 * (1 + apart) + 1 if algorithm == "gcra" else 10 * whole
    assert most_in(started, 1.0) <= allowed
    assert len(started) >= 10 * (hosts.true_time - started[0] - apart) * 0.7


@pytest.mark.parametrize("algorithm", ["gcra", "sliding", "fixed"])
def test_a_host_that_is_ahead_makes_the_others_wait_by_that_and_no_longer(shared, hosts, algorithm):
    wish = ReserveRequest("partner", (Pace(10, 1.0, algorithm=algorithm),))
    with hosts.one_with(30.0):
        assert shared.reserve(wish).wait == 0
    assert shared.reserve(wish).wait <= 30 + 1
    hosts.true_time += 31
    assert shared.reserve(wish).wait <= 1


@pytest.mark.parametrize("algorithm", ["gcra", "sliding", "fixed"])
def test_a_host_that_is_behind_is_late_by_that_and_holds_nobody_up(shared, hosts, algorithm):
    wish = ReserveRequest("partner", (Pace(10, 1.0, algorithm=algorithm),))
    shared.reserve(wish)
    with hosts.one_with(-30.0):
        assert shared.reserve(wish).wait <= 30 + 1
    assert shared.reserve(wish).wait <= 1


def test_a_clock_that_is_set_forward_and_back_costs_what_it_was_set_by_once(new_backend_url, hosts):
    backend = connect(new_backend_url("sqlite"))
    wish = ReserveRequest("partner", (Pace(10, 1.0),))
    for _ in range(100):
        backend.reserve(wish)
    hosts.true_time += 5
    early = [backend.reserve(wish).wait for _ in range(10)]
    assert early[0] == pytest.approx(5, abs=1e-3)
    hosts.true_time -= 8
    assert backend.reserve(wish).wait == pytest.approx(early[-1] + 8 + 0.1, abs=1e-3)
    backend.close()
