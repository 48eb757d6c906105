"""What every backend promises to those who have waited elsewhere: a place in line by the time since which they wait."""

from __future__ import annotations

import random

import pytest

from tasklocks.backends import Backend
from tasklocks.testing.asking import NAME, Line, held, taken
from tasklocks.types import Busy, Grant

_LONG_AGO = 100.0  # seconds


@pytest.mark.usefixtures("in_order")
def test_who_has_waited_elsewhere_stands_where_he_would_have_stood_or_all_stand_as_they_came(
    backend: Backend, line: Line
) -> None:
    taken(backend, "holder")
    late = line.join("late")
    early = line.join("early", since=late.busy.server_time - _LONG_AGO)
    middle = line.join("middle", since=late.busy.server_time - _LONG_AGO / 2)
    in_line = [early, middle, late] if backend.capabilities.by_since else [late, early, middle]
    assert [each.ask().ahead for each in in_line] == [0, 1, 2]
    assert _tickets(backend) == [each.request.owner for each in in_line]
    backend.release(NAME, "holder")
    for waiter in in_line:
        assert waiter.hears() is not None
        backend.release(NAME, waiter.request.owner)


@pytest.mark.usefixtures("in_order")
def test_nobody_has_waited_since_a_time_to_come(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    first = line.join("first", since=held(backend).server_time + 3600)
    line.join("second", since=first.busy.server_time + 60)
    line.join("third")
    assert _tickets(backend) == ["first", "second", "third"]


def test_who_was_granted_a_lease_keeps_it_whoever_has_waited_for_longer(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    granted = line.join("granted")
    backend.release(NAME, "holder")
    early = line.join("early", since=granted.busy.server_time - _LONG_AGO)
    assert [each.owner for each in backend.inspect(NAME).holders] == ["granted"]
    assert isinstance(early.ask(), Busy)
    assert isinstance(granted.ask(), Grant)
    assert isinstance(early.ask(), Busy)
    backend.release(NAME, "granted")
    assert early.hears() is not None


@pytest.mark.usefixtures("by_since")
def test_a_heavy_waiter_that_has_waited_for_longer_holds_light_ones_back(backend: Backend, line: Line) -> None:
    taken(backend, "a", capacity=2)
    taken(backend, "b", capacity=2)
    light = line.join("light", capacity=2)
    heavy = line.join("heavy", permits=2, capacity=2, since=light.busy.server_time - _LONG_AGO)
    backend.release(NAME, "a")
    assert isinstance(light.ask(), Busy)
    backend.release(NAME, "b")
    assert heavy.hears() is not None
    backend.release(NAME, "heavy")
    assert light.hears() is not None


@pytest.mark.usefixtures("by_since")
def test_who_has_waited_for_longer_than_a_heavy_head_takes_what_is_too_little_for_it(
    backend: Backend, line: Line
) -> None:
    taken(backend, "holder", capacity=2)
    heavy = line.join("heavy", permits=2, capacity=2)
    held(backend, capacity=2)
    taken(backend, "early", capacity=2, since=heavy.busy.server_time - _LONG_AGO)
    backend.release(NAME, "holder")
    assert isinstance(heavy.ask(), Busy)
    backend.release(NAME, "early")
    assert heavy.hears() is not None


@pytest.mark.usefixtures("by_since")
def test_a_long_line_that_came_in_any_order_is_served_by_the_time_it_waits(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    now = held(backend).server_time
    owners = [f"waiter-{turn:03}" for turn in range(120)]
    for owner in random.Random(7).sample(owners, len(owners)):  # noqa: S311 - the same order each time
        line.join(owner, since=now - _LONG_AGO + owners.index(owner) / 2)
    last = line.join("newcomer")
    assert _tickets(backend) == [*owners, "newcomer"]
    backend.release(NAME, "holder")
    served = []
    for _ in owners:
        (holder,) = backend.inspect(NAME).holders
        served.append(holder.owner)
        backend.release(NAME, holder.owner)
    assert served == owners
    assert last.hears() is not None


@pytest.mark.usefixtures("by_since")
def test_asking_again_keeps_a_place_that_goes_by_the_time_since_which_one_waits(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    late = line.join("late")
    early = line.join("early", since=late.busy.server_time - _LONG_AGO)
    first, last = backend.inspect(NAME).waiters
    assert abs(last.since - first.since - _LONG_AGO) < 5
    for _ in range(2):
        assert early.ask().ahead == 0
        assert late.ask().ahead == 1


def _tickets(backend: Backend) -> list[str]:
    return [each.ticket for each in backend.inspect(NAME).waiters]
