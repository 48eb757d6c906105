"""Every backend does what a few lines of plain Python do, whatever the order of the steps.

The model knows no time: leases in it never expire, so those in the backend are long. What is granted to a waiter is
not: it lapses unless it is claimed, so on a slow machine all is claimed now and then, and a run does not count from
where the machine stood still for longer than that. A second machine lets some leases end, all at one moment, and waits
until that has passed.
"""

from __future__ import annotations

import itertools
import math
import time
from typing import Any, cast

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from tasklocks import clock
from tasklocks.backends.base import Backend
from tasklocks.rates import RateState
from tasklocks.testing.asking import LONG, away, look
from tasklocks.testing.paced import Paced, timely
from tasklocks.types import AcquireRequest, Busy, Grant, Pace, Place, Refused, ReserveRequest, Taken

OWNERS = ["a", "b", "c", "d", "e", "f"]
TICKETS = ["t", "u", "v"]
TOO_MANY = 9
QUOTAS = {"large": 3, "small": 2}

_SECONDS = 3.0  # that leases may take to end, in all
_LONGEST = 60.0  # seconds; after that no new run is compared
_TRIES = 3
_MONTH = 30 * 86400.0

_names = itertools.count(1)
_deliveries = itertools.count(1)


class Comparison(Paced):
    """Does each step on a backend and on the model."""

    permits = st.integers(1, 3)
    capacities = st.integers(1, 5)
    owners = st.sampled_from(OWNERS)

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend, f"limit-{next(_names)}")
        self.grants: dict[str, Grant] = {}
        self.tokens: dict[str, int] = {}
        self.newest = 0
        self.used = 0

    def answered(self, owner: str, answer: Grant | Busy, *, granted: bool, ahead: int, was: int) -> None:
        assert answer.capacity_was == (was if was not in (0, self.model.capacity) else None)
        if not granted:
            assert isinstance(answer, Busy), f"{owner} got {answer}"
            assert (answer.ahead, answer.capacity) == (ahead, self.model.capacity)
            return
        assert isinstance(answer, Grant), f"{owner} got {answer}"
        assert (answer.owner, answer.permits) == (owner, self.model.leases[owner])
        self.grants[owner] = answer

    def since(self, waited: int) -> float | None:
        """Return since when one has waited elsewhere, a different time for each; None: since now."""
        hours = 3600.0 * waited
        return time.time() - hours if waited and self.backend.capabilities.by_since else None

    @rule(owner=owners, permits=permits, capacity=capacities)
    @timely
    def ask(self, owner: str, permits: int, capacity: int) -> None:
        """Without taking a place."""
        if owner in self.model.queue:
            return
        was = self.model.capacity
        granted = self.model.acquire(owner, permits, capacity)
        answer = look(self.backend, owner, self.name, permits=permits, capacity=capacity)
        self.answered(owner, answer, granted=granted, ahead=len(self.model.queue) + len(self.model.away), was=was)

    @rule(owner=owners, permits=permits, capacity=capacities, waited=st.sampled_from([0, 0, 0, 1, 2]))
    @timely
    def join(self, owner: str, permits: int, capacity: int, waited: int) -> None:
        """Listen for a permit, maybe after having waited elsewhere, or ask again from the place in line."""
        permits = self.model.queue.get(owner, permits)
        if owner not in self.ears:
            self.ears[owner] = self.backend.listen(owner)
        place, since = Place(owner, LONG, self.ears[owner].address), self.since(waited)
        was = self.model.capacity
        granted = self.model.acquire(owner, permits, capacity, since or math.inf)
        if not granted:
            self.model.stand(owner, permits, since or time.time())
        ahead = 0 if granted else list(self.model.queue).index(owner)
        answer = look(self.backend, owner, self.name, permits=permits, capacity=capacity, place=place, since=since)
        self.answered(owner, answer, granted=granted, ahead=ahead, was=was)

    @rule(ticket=st.sampled_from(TICKETS), permits=permits, capacity=capacities)
    @timely
    def come_back(self, ticket: str, permits: int, capacity: int) -> None:
        """One more delivery of a task that is sent again while it waits."""
        owner = f"{ticket}-{next(_deliveries)}"
        was = self.model.capacity
        granted = self.model.acquire(owner, permits, capacity)
        ahead = 0
        if granted:
            self.model.away.pop(ticket, None)
        else:
            self.model.away[ticket] = permits
            ahead = len(self.model.queue) + list(self.model.away).index(ticket)
        answer = look(self.backend, owner, self.name, permits=permits, capacity=capacity, place=away(ticket))
        self.answered(owner, answer, granted=granted, ahead=ahead, was=was)

    @rule(ticket=st.sampled_from(TICKETS), permits=permits, capacity=capacities, patient=st.booleans())
    @timely
    def take_all(self, ticket: str, permits: int, capacity: int, *, patient: bool) -> None:
        """The same for a task with two quotas, that goes away until its start, or gives up."""
        owner = f"{ticket}-{next(_deliveries)}"
        was = self.model.capacity
        granted = self.model.acquire(owner, permits, capacity)
        request = AcquireRequest(self.name, owner, permits, capacity, LONG, away(ticket))
        answer = self.backend.take_all(request, self.quotas(None if patient else 0.0), 1.0)
        if not granted:
            self.model.away[ticket] = permits
            assert isinstance(answer, Busy), f"{owner} got {answer}"
            ahead = len(self.model.queue) + list(self.model.away).index(ticket)
            self.answered(owner, answer, granted=False, ahead=ahead, was=was)
            return
        self.model.away.pop(ticket, None)
        if self.used < min(QUOTAS.values()):
            self.used += 1
            assert isinstance(answer, Taken) and answer.grant is not None, f"{owner} got {answer}"  # noqa: PT018
            self.answered(owner, answer.grant, granted=True, ahead=0, was=was)
        else:
            self.used += patient
            self.model.release(owner)
            assert isinstance(answer, Refused) if not patient else answer == Taken(None, answer.slots), answer

    def quotas(self, max_wait: float | None) -> list[ReserveRequest]:
        """Return two rates of this run, which the model only has to count."""
        paces = {f"{self.name}-{name}": Pace(limit, _MONTH, algorithm="sliding") for name, limit in QUOTAS.items()}
        return [ReserveRequest(name, (pace,), 1.0, max_wait) for name, pace in paces.items()]

    @precondition(lambda self: self.used)
    @rule()
    @timely
    def as_many_starts_are_reserved_as_the_model_has(self) -> None:
        for quota in self.quotas(None):
            assert self.backend.update(quota.name, _counted) == self.used

    @rule(owner=owners)
    @timely
    def release_or_leave(self, owner: str) -> None:
        assert self.backend.release(self.name, owner) is self.model.release(owner)

    @precondition(lambda self: self.model.leases)
    @rule(data=st.data())
    @timely
    def release_a_holder(self, data: st.DataObject) -> None:
        owner = data.draw(st.sampled_from(sorted(self.model.leases)))
        assert self.model.release(owner)
        assert self.backend.release(self.name, owner) is True

    @precondition(lambda self: self.model.leases)
    @rule(data=st.data())
    @timely
    def force_one_out(self, data: st.DataObject) -> None:
        owner = data.draw(st.sampled_from(sorted(self.model.leases)))
        del self.model.leases[owner]
        self.model.serve()
        assert self.backend.force_release(self.name, owner) == 1

    @precondition(lambda self: not self.model.kept)
    @rule()
    @timely
    def force_all_out(self) -> None:
        count = len(self.model.leases)
        self.model.leases.clear()
        self.model.serve()
        assert self.backend.force_release(self.name) == count

    @precondition(lambda self: any("-" in owner for owner in self.model.leases) and not self.model.kept)
    @rule()
    @timely
    def release_but_keep(self) -> None:
        """Only for owners that never ask again, as no delivery does."""
        owner = next(owner for owner in self.model.leases if "-" in owner)
        self.model.kept[owner] = self.model.leases.pop(owner)
        assert self.backend.release(self.name, owner, keep=LONG) is True

    @rule()
    @timely
    def renew_all(self) -> None:
        """Also leases that ended meanwhile."""
        grants = list(self.grants.values())
        answers = self.backend.renew(grants)
        assert len(answers) == len(grants)
        for grant, answer in zip(grants, answers, strict=True):
            if grant.owner not in self.model.leases:
                assert answer is None
                del self.grants[grant.owner]
            elif self.tokens.get(grant.owner) == grant.fencing_token:
                assert answer is not None
                assert (answer.owner, answer.fencing_token) == (grant.owner, grant.fencing_token)

    @invariant()
    @timely
    def the_backend_shows_what_the_model_has(self) -> None:
        state = self.backend.inspect(self.name)
        live = {each.owner: each.permits for each in state.holders if each.owner not in self.model.kept}
        assert list(live.items()) == list(self.model.leases.items())
        assert state.capacity == self.model.capacity
        assert [(each.ticket, each.permits) for each in state.waiters] == [
            *self.model.queue.items(),
            *self.model.away.items(),
        ]

    @invariant()
    @timely
    def tokens_only_grow(self) -> None:
        shown = {each.owner: each.fencing_token for each in self.backend.inspect(self.name).holders}
        new = [token for owner, token in shown.items() if self.tokens.get(owner) != token]
        assert new == sorted(set(new))
        assert all(token > self.newest for token in new)
        self.newest = max([self.newest, *new])
        self.tokens = shown


class ComparisonOverTime(Comparison):
    """The same, and once in each run what is short ends: a lease, and the place of one who stays away."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.passed = False

    @precondition(lambda self: not self.passed)
    @rule(permits=Comparison.permits, ticket=st.sampled_from(TICKETS))
    @timely
    def let_short_ones_end(self, permits: int, ticket: str) -> None:
        """Where one takes what is free and dies, and one who stays away does not come back."""
        self.passed = True
        self.claim_all()
        dying, passing, short = f"dying-{next(_deliveries)}", f"{ticket}-{next(_deliveries)}", _shortest(self.backend)
        capacity, over = max(1, self.model.capacity), clock.now() + short
        self.model.acquire(dying, permits, capacity)
        look(self.backend, dying, self.name, permits=permits, capacity=capacity, ttl=short)
        assert not self.model.acquire(passing, TOO_MANY, capacity)
        look(self.backend, passing, self.name, permits=TOO_MANY, capacity=capacity, place=away(ticket, short))
        if clock.now() < over:
            self.pass_time(over + 0.5 * short)
        else:
            self.give_up()
        self.model.release(dying)
        self.model.away.pop(ticket, None)
        self.backend.release(self.name, "nobody")
        self.claim_all()


@pytest.mark.usefixtures("in_order")
def test_any_order_of_steps_gives_what_the_model_gives(backend: Backend) -> None:
    _compare(backend, Comparison, max_examples=60, stateful_step_count=40)


@pytest.mark.usefixtures("in_order")
def test_any_order_of_steps_gives_what_the_model_gives_also_when_leases_end(backend: Backend) -> None:
    examples = math.ceil(_SECONDS / _shortest(backend))
    without_shrinking = [Phase.explicit, Phase.reuse, Phase.generate]
    _compare(backend, ComparisonOverTime, max_examples=examples, stateful_step_count=25, phases=without_shrinking)


def _compare(backend: Backend, machine: type[Comparison], **how: Any) -> None:
    how |= {"deadline": None, "suppress_health_check": list(HealthCheck)}
    assert any(_one_counts(backend, machine, how) for _ in range(_TRIES)), (
        "this machine is too slow to compare anything"
    )


def _one_counts(backend: Backend, machine: type[Comparison], how: dict[str, Any]) -> bool:
    """Compare in many runs; return whether one of them was in time to its end."""
    runs: list[Comparison] = []
    until = clock.now() + _LONGEST

    def made() -> Comparison:
        runs.append(machine(backend))
        if clock.now() > until:
            runs[-1].give_up()
        return runs[-1]

    run_state_machine_as_test(cast("type[Comparison]", made), settings=settings(**how))
    return any(run.counts for run in runs)


def _shortest(backend: Backend) -> float:
    """A ttl that the backend can keep, and within which a few steps are done."""
    return max(0.4, backend.capabilities.min_ttl)


def _counted(text: str, now: float) -> tuple[str, float, float]:
    """Return how many starts a sliding window has counted; changes nothing."""
    return text, 0.0, RateState.read(text).counted[0][-1][2]
