"""What every backend promises about a lock and rates that are taken together: all of them, or nothing."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest

from tasklocks.backends import Backend
from tasklocks.testing.asking import LONG, NAME, Line, away, free, held, taken
from tasklocks.types import AcquireRequest, Busy, Grant, Pace, Refused, ReserveRequest, Slot, Taken

SOON = 0.02
_SLOW = Pace(1, 100)


def _wish(owner: str = "one", **wish: Any) -> AcquireRequest:
    return AcquireRequest(NAME, owner, **{"ttl": LONG, **wish})


def _rates(*names: str, max_wait: float | None = None, pace: Pace = _SLOW) -> list[ReserveRequest]:
    return [ReserveRequest(name, (pace,), 1.0, max_wait) for name in names]


def _unused(backend: Backend, *names: str) -> bool:
    """Whether nobody has reserved a start at any of the limits."""
    answers = [backend.reserve(ReserveRequest(name, (_SLOW,), 1.0, 0.0)) for name in names]
    return all(isinstance(each, Slot) for each in answers)


@pytest.mark.parametrize("names", ["a", "ab", "abc"])
def test_a_lock_and_starts_are_taken_together(backend: Backend, names: str) -> None:
    answer = backend.take_all(_wish(), _rates(*names), SOON)
    assert isinstance(answer, Taken)
    assert isinstance(answer.grant, Grant)
    assert [slot.wait for slot in answer.slots] == [0.0] * len(names)
    assert held(backend).holders[0].fencing_token == answer.grant.fencing_token
    assert not any(_unused(backend, name) for name in names)
    assert backend.renew([answer.grant])[0] is not None
    assert backend.release(NAME, "one")


def test_while_the_lock_is_busy_no_start_is_reserved_and_the_place_in_line_is_kept(backend: Backend) -> None:
    taken(backend, "holder")
    for owner in ("one", "two"):
        answer = backend.take_all(_wish(owner, place=away(f"task-{owner}")), _rates("a", "b"), SOON)
        assert isinstance(answer, Busy)
        assert [each.owner for each in answer.holders] == ["holder"]
    assert [waiter.ticket for waiter in backend.inspect(NAME).waiters] == ["task-one", "task-two"]
    assert _unused(backend, "a", "b")


def test_nobody_who_listens_in_line_is_overtaken(backend: Backend) -> None:
    taken(backend, "holder", capacity=3)
    with Line(backend) as line:
        line.join("needs all", capacity=3, permits=3)
        assert isinstance(backend.take_all(_wish(capacity=3), _rates("a"), SOON), Busy)
    assert _unused(backend, "a")


def test_a_start_that_is_far_away_is_reserved_and_the_lock_stays_free(backend: Backend) -> None:
    backend.reserve(_rates("b")[0])
    answer = backend.take_all(_wish(place=away("task")), _rates("a", "b"), SOON)
    assert isinstance(answer, Taken)
    assert answer.grant is None
    assert [round(slot.wait, -1) for slot in answer.slots] == [0, 100]
    assert free(backend)
    assert not backend.inspect(NAME).waiters
    assert not any(_unused(backend, name) for name in "ab")


def test_a_start_that_is_near_enough_comes_with_the_lock(backend: Backend) -> None:
    backend.reserve(_rates("a")[0])
    answer = backend.take_all(_wish(), _rates("a"), 1000)
    assert isinstance(answer, Taken)
    assert answer.grant is not None
    assert not free(backend)


@pytest.mark.parametrize("names", ["b", "abc"])
def test_if_a_rate_refuses_neither_the_lock_nor_another_start_is_taken(backend: Backend, names: str) -> None:
    backend.reserve(_rates("b")[0])
    for _ in range(3):
        answer = backend.take_all(_wish(), _rates(*names, max_wait=50), 1000)
        assert isinstance(answer, Refused)
        assert (answer.name, 50 < answer.wait <= 100) == ("b", True)
        assert free(backend)
    assert _unused(backend, *names.replace("b", ""))


def test_a_lock_that_is_busy_is_said_before_a_rate_that_refuses(backend: Backend) -> None:
    backend.reserve(_rates("a")[0])
    taken(backend, "holder")
    assert isinstance(backend.take_all(_wish(), _rates("a", max_wait=0), SOON), Busy)


@pytest.mark.parametrize("algorithm", ["gcra", "sliding", "fixed"])
def test_every_way_to_count_goes_with_a_lock(backend: Backend, algorithm: Any) -> None:
    month = Pace(1, 31 * 86400.0, algorithm=algorithm)
    rates = [ReserveRequest("a", (Pace(2, 100.0, algorithm=algorithm),)), ReserveRequest("b", (month,), 1.0, 0.0)]
    first = backend.take_all(_wish(), rates, SOON)
    assert isinstance(first, Taken)
    assert first.grant is not None
    backend.release(NAME, "one")
    second = backend.take_all(_wish("two"), rates, SOON)
    assert isinstance(second, Refused)
    assert second.name == "b"


def test_a_pause_holds_a_lock_and_its_starts_back(backend: Backend) -> None:
    from tasklocks.ratelimit import pause

    pause("a", 100, backend=backend)
    answer = backend.take_all(_wish(), _rates("a", "b"), SOON)
    assert isinstance(answer, Taken)
    assert answer.grant is None
    assert 50 < answer.slots[0].wait <= 100
    assert free(backend)


def test_tokens_grow_and_a_changed_capacity_is_told_as_with_a_lock_alone(backend: Backend) -> None:
    before = taken(backend, "zero", capacity=2)
    answer = backend.take_all(_wish(capacity=3, permits=2), _rates("a"), SOON)
    assert isinstance(answer, Taken)
    assert answer.grant is not None
    assert answer.grant.fencing_token > before.fencing_token
    assert (answer.grant.capacity_was, answer.grant.permits) == (2, 2)
    assert backend.inspect(NAME).capacity == 3


def test_however_many_ask_at_once_the_lock_has_one_holder_and_each_start_one_task(backend: Backend) -> None:
    """Half of them want the lock and the start, the others the start alone, or the lock alone."""
    pace, starts, tokens = Pace(200, 1.0), [], []
    inside: list[str] = []

    def hold(grant: Grant) -> None:
        inside.append(grant.owner)
        tokens.append(grant.fencing_token)
        time.sleep(0.001)
        assert inside == [grant.owner]
        inside.clear()
        backend.release(NAME, grant.owner)

    def both(number: int) -> None:
        answer = backend.take_all(_wish(f"both-{number}"), _rates("a", "b", pace=pace), 0.3)
        if not isinstance(answer, Taken):
            return
        starts.append(answer.slots[0].start)
        if answer.grant is not None:
            hold(answer.grant)

    def one(number: int) -> None:
        slot = backend.reserve(_rates("a", pace=pace)[0])
        assert isinstance(slot, Slot)
        starts.append(slot.start)
        grant = backend.acquire(_wish(f"one-{number}"))
        if isinstance(grant, Grant):
            hold(grant)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: (both if number % 2 else one)(number), range(80)))
    assert tokens
    assert tokens == sorted(set(tokens))
    assert len(starts) >= 40
    assert all(later - earlier > 0.0049 for earlier, later in pairwise(sorted(starts)))
    assert free(backend)


def test_a_backend_that_does_it_in_one_step_never_lets_others_find_the_lock_busy_in_vain(backend: Backend) -> None:
    if not backend.capabilities.together:
        pytest.skip("it takes one after the other")
    backend.reserve(_rates("a")[0])

    def ask() -> None:
        for number in range(50):
            answer = backend.take_all(_wish(f"refused-{number}"), _rates("a", max_wait=0), SOON)
            assert not isinstance(answer, Taken)

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        while not asking.done():
            assert free(backend)
        asking.result()
