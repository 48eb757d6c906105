"""A free lease costs one round trip, and giving it back costs one.

Counted at the wire: by a relay between client and server, which holds each answer up for so long that what was sent
together is there before it.
"""

from __future__ import annotations

import itertools
import operator
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from tasklocks import Lock, clock, connect
from tasklocks.backends import Backend
from tasklocks.types import AcquireRequest, Pace, ReserveRequest, Taken
from tests.conftest import SERVED_BACKENDS
from tests.line import NAME, held, taken
from tests.relay import Relay, relayed

DELAY = 0.05
TURNS = 9


class Costs(NamedTuple):
    """Round trips of what is less frequent, or not urgent."""

    first_use: int
    renewal: int
    busy: int
    inspect: int


# Where it is more than one each. ZooKeeper makes a limit's nodes at its first use, and shows holders by reading theirs;
# etcd has leases of its own to keep alive, and looks whether the entries are still there.
MOST = {"etcd": Costs(1, 2, 1, 1), "zookeeper": Costs(4, 1, 4, 2)}

# Redis does all in a script. etcd reads, and then writes what is still the same. MongoDB and ZooKeeper take the lock,
# and then read and write each rate.
TOGETHER = {"redis": 1, "etcd": 2, "mongodb": 5, "zookeeper": 5, "postgresql": 2}


@dataclass(frozen=True)
class Wire:
    """A backend whose every byte goes through a relay."""

    kind: str
    relay: Relay
    backend: Backend

    def costs(self, *steps: Callable[[], object]) -> list[tuple[int, float]]:
        """Return what each step usually costs: round trips as counted, and as its duration tells."""
        self.relay.delay = DELAY
        turns = [[self._cost(step) for step in steps] for _ in range(TURNS)]
        self.relay.delay = 0.0
        # The middle one: clients say hello and keep sessions alive now and then, beside the steps.
        return [tuple(map(statistics.median, zip(*each, strict=True))) for each in zip(*turns, strict=True)]

    def _cost(self, step: Callable[[], object]) -> tuple[int, float]:
        before, began = self.relay.requests, clock.now()
        step()
        return self.relay.requests - before, (clock.now() - began) / DELAY


@pytest.fixture(params=SERVED_BACKENDS)
def wire(request: pytest.FixtureRequest, new_backend_url: Callable[[str], str]) -> Iterator[Wire]:
    """A backend of each kind that has a server, through a relay."""
    with relayed(new_backend_url(request.param)) as (relay, url):
        backend = connect(url)
        yield Wire(request.param, relay, backend)
        backend.close()


def test_a_free_lease_costs_one_round_trip_and_giving_it_back_costs_one(wire):
    lock, leases = Lock("limit", ttl=60, backend=wire.backend), []
    lock.acquire().release()
    taking, giving = wire.costs(lambda: leases.append(lock.acquire()), lambda: leases.pop().release())
    assert (taking[0], giving[0]) == (1, 1)
    assert taking[1] < 1.8
    assert giving[1] < 1.8


def test_what_else_a_step_costs_is_bounded(wire):
    backend, names = wire.backend, (f"limit-{number}" for number in itertools.count())
    grant = taken(backend, "holder")
    taken(backend, "the first of all", next(names))
    costs = wire.costs(
        lambda: taken(backend, "a", next(names)),
        lambda: backend.renew([grant]),
        lambda: held(backend),
        lambda: backend.inspect(NAME),
    )
    counted = Costs(*(trips for trips, _ in costs))
    assert all(map(operator.le, counted, MOST.get(wire.kind, Costs(1, 1, 1, 1)))), counted


def test_a_lock_and_two_starts_cost_as_few_round_trips_as_the_store_allows(wire):
    backend, numbers = wire.backend, itertools.count()
    rates = [ReserveRequest(name, (Pace(1e6, 1.0),)) for name in ("rate-a", "rate-b")]
    owners = []

    def take() -> None:
        owners.append(f"owner-{next(numbers)}")
        answer = backend.take_all(AcquireRequest(NAME, owners[-1]), rates, 1.0)
        assert isinstance(answer, Taken)

    def release() -> None:
        assert backend.release(NAME, owners.pop())

    take()
    release()
    (trips, _), _ = wire.costs(take, release)
    assert trips == TOGETHER[wire.kind]
