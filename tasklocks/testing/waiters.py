"""What every backend promises to those who wait."""

from __future__ import annotations

import time

import pytest

from tasklocks import clock
from tasklocks.backends.base import GRANT_TTL, Backend
from tasklocks.testing.asking import LONG, NAME, Line, away, free, held, look, taken
from tasklocks.types import Busy, Grant


@pytest.mark.usefixtures("in_order")
def test_waiters_are_served_in_the_order_in_which_they_came(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    waiters = [line.join(f"waiter-{turn}") for turn in range(6)]
    backend.release(NAME, "holder")
    for waiter in waiters:
        assert [holder.owner for holder in backend.inspect(NAME).holders] == [waiter.request.owner]
        assert waiter.hears() is not None
        backend.release(NAME, waiter.request.owner)
    assert free(backend)


@pytest.mark.usefixtures("in_order")
def test_a_waiter_knows_how_many_are_in_front(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    waiters = [line.join(f"waiter-{turn}") for turn in range(4)]
    assert [waiter.busy.ahead for waiter in waiters] == [0, 1, 2, 3]
    assert held(backend).ahead == 4
    waiters[1].leave()
    assert waiters[3].ask().ahead == 2


@pytest.mark.usefixtures("in_order")
def test_asking_again_keeps_the_place(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    first, second = line.join("first"), line.join("second")
    assert first.ask().ahead == 0
    assert second.ask().ahead == 1
    assert [each.ticket for each in backend.inspect(NAME).waiters] == ["first", "second"]


def test_a_release_reaches_the_waiter_at_once(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    waiter = line.join("waiter")
    backend.release(NAME, "holder")
    began = time.monotonic()
    assert waiter.hears(within=10) is not None
    assert time.monotonic() - began < 1.5


def test_a_release_hands_the_permit_on_before_anyone_asks(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    waiter = line.join("waiter")
    backend.release(NAME, "holder")
    assert held(backend).holders[0].owner == "waiter"
    assert waiter.hears().owner == "waiter"


def test_who_claims_its_hand_off_keeps_the_token_and_gets_its_full_ttl(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    waiter = line.join("waiter", info="me")
    backend.release(NAME, "holder")
    (given,) = backend.inspect(NAME).holders
    claimed = waiter.ask()
    assert claimed.fencing_token == given.fencing_token
    assert claimed.deadline - clock.now() > LONG - 5
    assert backend.inspect(NAME).holders[0].expires_in > GRANT_TTL
    assert backend.inspect(NAME).holders[0].info == "me"


def test_a_renewal_claims_a_hand_off_too(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    waiter = line.join("waiter")
    backend.release(NAME, "holder")
    grant = waiter.hears()
    assert grant is not None
    (renewed,) = backend.renew([grant])
    assert renewed.deadline - clock.now() > GRANT_TTL + 1
    assert renewed.fencing_token == grant.fencing_token


def test_tokens_grow_over_hand_offs(backend: Backend, line: Line) -> None:
    tokens = [taken(backend, "holder").fencing_token]
    waiters = [line.join(f"waiter-{turn}") for turn in range(4)]
    backend.release(NAME, "holder")
    for waiter in waiters:
        tokens.append(waiter.hears().fencing_token)
        backend.release(NAME, waiter.request.owner)
    assert tokens == sorted(set(tokens))


@pytest.mark.usefixtures("in_order")
def test_a_heavy_waiter_at_the_head_is_not_overtaken_by_light_ones(backend: Backend, line: Line) -> None:
    taken(backend, "a", capacity=3)
    taken(backend, "b", capacity=3)
    heavy = line.join("heavy", permits=3, capacity=3)
    light = line.join("light", permits=1, capacity=3)
    held(backend, permits=1, capacity=3)
    backend.release(NAME, "a")
    assert isinstance(light.ask(), Busy)
    assert [holder.owner for holder in backend.inspect(NAME).holders] == ["b"]
    backend.release(NAME, "b")
    assert heavy.hears().permits == 3
    assert isinstance(light.ask(), Busy)
    backend.release(NAME, "heavy")
    assert light.hears() is not None


@pytest.mark.usefixtures("in_order")
def test_one_release_serves_as_many_waiters_as_fit(backend: Backend, line: Line) -> None:
    taken(backend, "heavy", permits=3, capacity=3)
    waiters = [line.join(f"waiter-{turn}", capacity=3) for turn in range(5)]
    backend.release(NAME, "heavy")
    assert [holder.owner for holder in backend.inspect(NAME).holders] == ["waiter-0", "waiter-1", "waiter-2"]
    assert all(waiter.hears() for waiter in waiters[:3])
    assert [each.ticket for each in backend.inspect(NAME).waiters] == ["waiter-3", "waiter-4"]


def test_a_waiter_that_left_is_skipped(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    gone, next_one = line.join("gone"), line.join("next")
    assert gone.leave() is False
    backend.release(NAME, "holder")
    assert next_one.hears() is not None
    assert isinstance(gone.ask(), Busy)


def test_a_heavy_waiter_that_left_lets_the_light_ones_pass(backend: Backend, line: Line) -> None:
    taken(backend, "holder", capacity=2)
    heavy = line.join("heavy", permits=2, capacity=2)
    light = line.join("light", permits=1, capacity=2)
    heavy.leave()
    assert light.hears() is not None


def test_a_waiter_whose_place_lapsed_is_skipped(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    line.join("dead", keep=0.3)
    alive = line.join("alive")
    time.sleep(0.4)
    assert alive.ask().ahead == 0
    assert [each.ticket for each in backend.inspect(NAME).waiters] == ["alive"]
    backend.release(NAME, "holder")
    assert alive.hears() is not None


def test_the_grant_of_a_dead_waiter_lapses_and_the_next_one_gets_it(backend: Backend, line: Line, ttl: float) -> None:
    taken(backend, "holder")
    line.join("dead", ttl=ttl)
    alive = line.join("alive")
    backend.release(NAME, "holder")
    assert alive.ask().holders[0].owner == "dead"
    time.sleep(ttl + 0.2)
    assert alive.ask().owner == "alive"


def test_an_unclaimed_grant_lasts_seconds_whatever_its_ttl(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    line.join("waiter", ttl=LONG)
    backend.release(NAME, "holder")
    assert backend.inspect(NAME).holders[0].expires_in <= max(GRANT_TTL, backend.capabilities.min_ttl)


def test_the_head_of_the_line_is_told_when_it_may_look_again(backend: Backend, line: Line, ttl: float) -> None:
    taken(backend, "holder", ttl=ttl)
    waiter = line.join("waiter")
    assert waiter.busy.retry_after is not None
    assert waiter.busy.retry_after <= ttl
    time.sleep(waiter.busy.retry_after + 0.1)
    assert isinstance(waiter.ask(), Grant)


@pytest.mark.usefixtures("in_order")
def test_an_expired_lease_goes_to_the_head_not_to_a_newcomer(backend: Backend, line: Line, ttl: float) -> None:
    taken(backend, "holder", ttl=ttl)
    waiter = line.join("waiter")
    time.sleep(ttl + 0.2)
    assert held(backend).holders[0].owner == "waiter"
    assert waiter.hears() is not None


@pytest.mark.usefixtures("in_order")
def test_a_larger_capacity_serves_waiters_in_order(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    waiters = [line.join(f"waiter-{turn}") for turn in range(3)]
    held(backend, capacity=3)
    assert waiters[0].hears() is not None
    assert waiters[1].hears() is not None
    assert [each.ticket for each in backend.inspect(NAME).waiters] == ["waiter-2"]


def test_a_smaller_capacity_holds_waiters_back(backend: Backend, line: Line) -> None:
    taken(backend, "a", capacity=2)
    taken(backend, "b", capacity=2)
    waiter = line.join("waiter", capacity=1)
    backend.release(NAME, "a")
    assert isinstance(waiter.ask(), Busy)
    backend.release(NAME, "b")
    assert waiter.hears() is not None


def test_who_brings_a_smaller_capacity_is_not_served_under_the_larger_one(backend: Backend, line: Line) -> None:
    crowd = "abcde"
    for owner in crowd:
        taken(backend, owner, capacity=9)
    waiter = line.join("waiter", capacity=1)
    for owner in crowd:
        assert isinstance(waiter.ask(), Busy)
        backend.release(NAME, owner)
    assert waiter.hears() is not None


def test_forcing_a_holder_out_serves_the_head(backend: Backend, line: Line) -> None:
    taken(backend, "wedged")
    waiter = line.join("waiter")
    backend.force_release(NAME)
    assert waiter.hears() is not None


def test_kept_permits_are_handed_on_when_their_time_is_over(backend: Backend, line: Line, ttl: float) -> None:
    taken(backend, "holder")
    waiter = line.join("waiter")
    backend.release(NAME, "holder", keep=ttl)
    assert isinstance(waiter.ask(), Busy)
    time.sleep(ttl + 0.2)
    assert isinstance(waiter.ask(), Grant)


def test_a_renewal_of_another_lease_hands_on_what_expired(backend: Backend, line: Line, ttl: float) -> None:
    lasting = taken(backend, "lasting", capacity=2)
    taken(backend, "short", capacity=2, ttl=ttl)
    waiter = line.join("waiter", capacity=2)
    time.sleep(ttl + 0.2)
    backend.renew([lasting])
    began = time.monotonic()
    assert waiter.hears(within=10) is not None
    assert time.monotonic() - began < 1.5


def test_inspect_shows_the_line(backend: Backend, line: Line) -> None:
    taken(backend, "holder", capacity=3, permits=3)
    line.join("first", capacity=3, permits=2, info="about first")
    look(backend, "delivery-1", capacity=3, place=away("task"), info="about task")
    line.join("second", capacity=3)
    shown = backend.inspect(NAME).waiters
    assert [(each.ticket, each.permits, each.listening, each.info) for each in shown] == [
        ("first", 2, True, "about first"),
        ("second", 1, True, ""),
        ("task", 1, False, "about task"),
    ]
    assert all(abs(time.time() - each.since) < 30 for each in shown)


def test_a_place_is_as_old_as_its_first_question(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    waiter = line.join("waiter")
    (before,) = backend.inspect(NAME).waiters
    time.sleep(0.3)
    waiter.ask()
    (after,) = backend.inspect(NAME).waiters
    assert abs(after.since - before.since) < 0.1


def test_an_ear_that_was_closed_does_not_deafen_the_others(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    quitter, stayer = line.join("quitter"), line.join("stayer")
    quitter.leave()
    quitter.listener.close()
    backend.release(NAME, "holder")
    assert stayer.hears() is not None


@pytest.mark.usefixtures("in_order")
def test_hundred_waiters_of_one_limit_are_all_served_in_order(backend: Backend, line: Line) -> None:
    taken(backend, "holder")
    waiters = [line.join(f"waiter-{turn:03}") for turn in range(100)]
    backend.release(NAME, "holder")
    served = []
    for _ in waiters:
        (holder,) = backend.inspect(NAME).holders
        served.append(holder.owner)
        backend.release(NAME, holder.owner)
    assert served == [waiter.request.owner for waiter in waiters]


def test_waiters_of_other_limits_hear_nothing(backend: Backend, line: Line) -> None:
    taken(backend, "holder", "mine")
    taken(backend, "holder", "other")
    waiter = line.join("waiter", "mine")
    line.join("elsewhere", "other")
    backend.release("other", "holder")
    assert waiter.hears(within=0.3) is None
