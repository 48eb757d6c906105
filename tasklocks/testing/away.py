"""What every backend promises to those who come back by themselves: a place in line, and nothing held for them."""

from __future__ import annotations

import time

import pytest

from tasklocks.backends import Backend
from tasklocks.testing.asking import NAME, Line, away, held, look, taken
from tasklocks.types import Busy


def test_who_is_away_is_counted_but_nothing_is_held_for_it(backend: Backend) -> None:
    taken(backend, "holder")
    assert look(backend, "first-1", place=away("first")).ahead == 0
    assert look(backend, "second-1", place=away("second")).ahead == 1
    assert held(backend).ahead == 2
    backend.release(NAME, "holder")
    taken(backend, "newcomer")


def test_who_is_away_keeps_one_place_over_all_its_deliveries(backend: Backend) -> None:
    taken(backend, "holder")
    look(backend, "delivery-1", place=away("task"))
    look(backend, "other-1", place=away("other"))
    assert look(backend, "delivery-2", place=away("task")).ahead == 0
    assert [(each.ticket, each.listening) for each in backend.inspect(NAME).waiters] == [
        ("task", False),
        ("other", False),
    ]


def test_who_comes_back_and_is_served_leaves_the_line(backend: Backend) -> None:
    taken(backend, "holder")
    look(backend, "delivery-1", place=away("task"))
    backend.release(NAME, "holder")
    taken(backend, "delivery-2", place=away("task"))
    assert backend.inspect(NAME).waiters == ()
    assert held(backend).ahead == 0


def test_the_place_of_one_who_stays_away_lapses(backend: Backend) -> None:
    taken(backend, "holder")
    look(backend, "delivery-1", place=away("task", keep=0.3))
    time.sleep(0.4)
    assert held(backend).ahead == 0
    assert backend.inspect(NAME).waiters == ()


@pytest.mark.usefixtures("in_order")
def test_listening_waiters_come_before_those_who_are_away(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    look(backend, "delivery-1", place=away("task"))
    assert line.join("listening").busy.ahead == 0
    assert look(backend, "delivery-2", place=away("task")).ahead == 1
    backend.release(NAME, "holder")
    assert isinstance(look(backend, "delivery-3", place=away("task")), Busy)
    assert backend.inspect(NAME).holders[0].owner == "listening"
