"""Whatever happens in whatever order, the windows that docs/rates.md promises hold on the record of what started.

The record is made by the one who starts the very moment that it may, whatever pauses did to it meanwhile: nobody else
starts earlier.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasklocks import connect, pause, resume
from tasklocks.backends import Backend
from tasklocks.rates import RateState
from tasklocks.types import Pace, Refused, ReserveRequest, Slot

NOW = 1_800_000_000.0
HAIR = 1e-5  # seconds: moments are sums of floats
PERIOD = 10.0

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.sampled_from([0.5, 1, 1, 1, 2, 3]), st.sampled_from([None, None, 0.0, 4.0])),
        st.tuples(st.just("wait"), st.sampled_from([0.001, 0.3, 1.0, 2.5, 7.0, 11.0, 40.0])),
        st.tuples(st.just("pause"), st.sampled_from([0.0, 0.4, 3.0, 9.0, 25.0])),
        st.tuples(st.just("resume")),
    ),
    max_size=80,
)
PACES = st.one_of(
    st.lists(
        st.builds(Pace, st.sampled_from([3, 4, 7.5]), st.just(PERIOD), st.sampled_from([None, 3, 6.5])),
        min_size=1,
        max_size=2,
    ),
    st.lists(
        st.builds(Pace, st.sampled_from([3, 4, 7.5]), st.sampled_from([PERIOD, 3.0]), algorithm=st.just("sliding")),
        min_size=1,
        max_size=2,
    ),
    st.lists(
        st.builds(Pace, st.sampled_from([3, 4, 7.5]), st.sampled_from([PERIOD, 3.0]), algorithm=st.just("fixed")),
        min_size=1,
        max_size=2,
    ),
)


@dataclass
class Clock:
    """Time that passes when it is told to."""

    now: float = NOW


@dataclass
class Record:
    """Who waits, and what started when, with its cost."""

    waiting: list[tuple[Slot, float]] = field(default_factory=list)
    started: list[tuple[float, float]] = field(default_factory=list)

    def start(self, paces: Sequence[Pace], state: RateState, now: float) -> None:
        due = [(state.due(paces, slot.start, slot.made), slot, cost) for slot, cost in self.waiting]
        self.started += [(at, cost) for at, _, cost in due if at <= now]
        self.waiting = [(slot, cost) for at, slot, cost in due if at > now]


def check(paces: Sequence[Pace], started: Sequence[tuple[float, float]]) -> None:
    # Of several quotas a pause keeps the one of the shortest windows; see docs/rates.md.
    for pace in paces if paces[0].algorithm != "fixed" else [min(paces, key=lambda pace: pace.period)]:
        CHECKS[pace.algorithm](pace, sorted(started))


def check_even(pace: Pace, started: Sequence[tuple[float, float]]) -> None:
    each = pace.period / pace.limit
    for first, (begin, cost) in enumerate(started):
        used = 0.0 if pace.burst else -cost
        for at, more in started[first:]:
            # With a burst: the burst and what the time is worth. Without: each waits for the share of those before it.
            allowed = (at - begin) / each + (pace.burst or 0.0)
            used += more
            assert (used if pace.burst else used + cost - more) <= allowed + HAIR / each, (pace, begin, at)


def check_sliding(pace: Pace, started: Sequence[tuple[float, float]]) -> None:
    for begin, _ in started:
        used = sum(cost for at, cost in started if begin <= at < begin + pace.period - HAIR)
        assert used <= pace.limit * (1 + 1e-6), (pace, begin)


def check_fixed(pace: Pace, started: Sequence[tuple[float, float]]) -> None:
    used: dict[int, float] = {}
    for at, cost in started:
        window = math.floor(at / pace.period)
        used[window] = used.get(window, 0.0) + cost
    assert all(each <= pace.limit for each in used.values()), (pace, used)


CHECKS: dict[str, Callable[[Pace, Sequence[tuple[float, float]]], None]] = {
    "gcra": check_even,
    "sliding": check_sliding,
    "fixed": check_fixed,
}


def follow(backend: Backend, name: str, paces: Sequence[Pace], steps: Sequence[Any], clock: Clock) -> Record:
    """Do the steps, one after the other, and record what starts meanwhile."""
    record, state = Record(), RateState()
    for kind, *details in steps:
        if kind == "wait":
            clock.now += details[0]
        state = RateState.read(backend.update(name, lambda text, now: (text, 0.0, text)))
        record.start(paces, state, clock.now)
        if kind == "reserve":
            answer = backend.reserve(ReserveRequest(name, tuple(paces), *details))
            if isinstance(answer, Slot):
                record.waiting.append((answer, details[0]))
        elif kind == "pause":
            pause(name, details[0], backend=backend)
        elif kind == "resume":
            resume(name, backend=backend)
    state = RateState.read(backend.update(name, lambda text, now: (text, 0.0, text)))
    record.start(paces, state, math.inf)
    return record


@pytest.fixture(params=["memory", "sqlite"])
def local(request, new_backend_url, monkeypatch):
    """A backend on the host's clock, which the test sets."""
    clock, backend = Clock(), connect(new_backend_url(request.param))
    monkeypatch.setattr(time, "time", lambda: clock.now)
    yield backend, clock
    backend.close()


numbers = count()


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(paces=PACES, steps=STEPS)
def test_no_window_is_ever_exceeded_by_any_order_of_reserving_pausing_and_resuming(local, paces, steps):
    backend, clock = local
    clock.now += 1000
    record = follow(backend, f"limit {next(numbers)}", paces, steps, clock)
    check(paces, record.started)


@pytest.mark.parametrize("algorithm", ["gcra", "sliding", "fixed"])
@pytest.mark.parametrize("server", ["redis", "mongodb", "etcd", "zookeeper"])
def test_each_server_reckons_as_the_arithmetic_here_does(server, algorithm, new_backend_url):
    backend, draw = connect(new_backend_url(server)), random.Random(f"{server} {algorithm}")
    for number in range(3):
        paces = [Pace(4, 0.5, algorithm=algorithm), *([Pace(9, 2.0, algorithm=algorithm)] if number == 2 else [])]
        record = Record()
        for _ in range(24):
            state = stated(backend, f"limit {number}", paces, record)
            kind = draw.choices(["reserve", "wait", "pause", "resume"], [20, 6, 2, 2])[0]
            if kind == "wait":
                time.sleep(draw.choice([0.01, 0.03, 0.15]))
            elif kind == "pause":
                pause(f"limit {number}", draw.choice([0.05, 0.3]), backend=backend)
            elif kind == "resume":
                resume(f"limit {number}", backend=backend)
            else:
                cost, bound = draw.choice([1, 2, 0.5]), draw.choice([None, None, 0.0])
                reckoned_alike(backend, state, record, ReserveRequest(f"limit {number}", tuple(paces), cost, bound))
        time.sleep(0.01)
        record.start(paces, stated(backend, f"limit {number}", paces, record), math.inf)
        check(paces, record.started)
    backend.close()


def stated(backend: Backend, name: str, paces: Sequence[Pace], record: Record) -> RateState:
    text, now = backend.update(name, lambda text, now: (text, 0.0, (text, now)))
    state = RateState.read(text)
    record.start(paces, state, now)
    return state


def reckoned_alike(backend: Backend, state: RateState, record: Record, request: ReserveRequest) -> None:
    before, answer = backend.update(request.name, lambda text, now: (text, 0.0, text)), backend.reserve(request)
    if isinstance(answer, Refused):
        assert answer.wait > 0
        assert backend.update(request.name, lambda text, now: (text, 0.0, text)) == before
    else:
        here = state.reserve(request.paces, request.cost, answer.start - answer.wait, None)
        assert answer.start == pytest.approx(here.start, abs=HAIR, rel=0)
        record.waiting.append((answer, request.cost))
