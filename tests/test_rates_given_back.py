"""A start that nobody will use goes to the next one who asks, if that can be exact: nobody has reserved behind it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasklocks import connect
from tasklocks.rates import RateState
from tasklocks.types import Pace, ReserveRequest, Slot

NOW = 1_800_000_000.0
ALGORITHMS = ["gcra", "sliding", "fixed"]


def reserved(state: RateState, paces: list[Pace], now: float = NOW, cost: float = 1) -> Slot:
    slot = state.reserve(paces, cost, now, None)
    assert isinstance(slot, Slot)
    return slot


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_last_start_goes_to_the_next_one_who_asks(algorithm):
    state, paces = RateState(), [Pace(1, 10, algorithm=algorithm)]
    reserved(state, paces)
    last = reserved(state, paces)
    assert state.give_back(paces, 1, last, NOW + 1)
    assert reserved(state, paces, NOW + 2).start == last.start


def test_of_several_at_one_moment_only_one_is_given_back():
    state, paces = RateState(), [Pace(3, 10, algorithm="sliding")]
    slots = [reserved(state, paces) for _ in range(3)]
    assert state.give_back(paces, 1, slots[1], NOW)
    assert [reserved(state, paces, NOW + 1).start for _ in range(2)] == [NOW + 1, NOW + 10]


@pytest.mark.parametrize("algorithm", ["gcra", "sliding"])
def test_a_start_that_somebody_reserved_behind_stays(algorithm):
    state, paces = RateState(), [Pace(1, 10, algorithm=algorithm)]
    slots = [reserved(state, paces) for _ in range(3)]
    before = state.written()
    assert not any(state.give_back(paces, 1, slot, NOW) for slot in slots[:2])
    assert state.written() == before


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_is_given_back_twice(algorithm):
    state, paces = RateState(), [Pace(1, 10, algorithm=algorithm)]
    reserved(state, paces)
    last = reserved(state, paces)
    state.give_back(paces, 1, last, NOW)
    following = reserved(state, paces)
    assert following.start == last.start
    assert reserved(state, paces).start > following.start


def test_nothing_is_given_back_in_a_pause_which_may_have_moved_it():
    state, paces = RateState(), [Pace(1, 10)]
    slot = reserved(state, paces)
    state.pause(NOW + 100, NOW + 1)
    assert not state.give_back(paces, 1, slot, NOW + 2)


def test_of_several_rates_all_or_none_get_it_back():
    paces = [Pace(1, 10), Pace(2, 60, algorithm="gcra")]
    state = RateState()
    reserved(state, paces)
    last = reserved(state, paces)
    assert state.give_back(paces, 1, last, NOW)
    assert reserved(state, paces).start == last.start


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis", "mongodb", "etcd", "zookeeper"])
def test_what_is_given_back_is_there_for_the_next_one_on_every_backend(kind, new_backend_url):
    backend = connect(new_backend_url(kind))
    for algorithm in ALGORITHMS:
        wish = ReserveRequest(f"api-{algorithm}", (Pace(1, 3600.0, algorithm=algorithm),))
        backend.reserve(wish)
        last = backend.reserve(wish)

        def give_back(text: str, now: float, wish: Any = wish, last: Any = last) -> tuple[str, float, bool]:
            state = RateState.read(text)
            given = state.give_back(wish.paces, wish.cost, last, now)
            return state.written(), state.lasts(now) + 60, given

        assert backend.update(wish.name, give_back)
        assert backend.reserve(wish).start == pytest.approx(last.start, abs=1e-5)
    backend.close()


@settings(deadline=None, max_examples=200)
@given(
    data=st.data(),
    limit=st.integers(1, 20),
    burst=st.sampled_from([None, 1, 3]),
    algorithm=st.sampled_from(ALGORITHMS),
)
def test_whoever_gives_back_what_it_can_gains_no_start_over_who_never_reserved_it(data, limit, burst, algorithm):
    pace = Pace(limit, 10.0, burst if algorithm == "gcra" else None, algorithm)
    state, never, now, mine = RateState(), RateState(), NOW, []
    for _ in range(40):
        now += data.draw(st.sampled_from([0.0, 0.0, 0.01, 0.5, 3.0, 12.0]))
        if data.draw(st.booleans()):
            undone, kept = RateState.read(never.written()), reserved(state, [pace], now)
            expected = reserved(never, [pace], now).start
            assert kept.start >= expected - 1e-5
            mine.append((kept, undone))
        elif mine:
            slot, before = mine.pop(data.draw(st.sampled_from([-1, -1, 0])))
            if state.give_back([pace], 1, slot, now):
                never, mine = before, []
        state = RateState.read(state.written())
