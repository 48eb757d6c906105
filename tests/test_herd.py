"""However many wait, a release wakes only those whom it serves: what goes over the wire for it does not grow."""

from __future__ import annotations

import time

import pytest

from tests.conftest import SERVED_BACKENDS
from tests.herd import herd
from tests.relay import relayed

FEW, MANY = 5, 100
RELEASES = 10

LISTED = {"zookeeper"}
"""Where the line is a listing: it is read as often, but it is longer. benchmarks/herd.py shows by how much."""


@pytest.mark.parametrize("kind", SERVED_BACKENDS)
def test_a_release_costs_the_same_with_few_waiters_and_with_many(kind, new_backend_url, tmp_path):
    with relayed(new_backend_url(kind)) as (relay, url), herd(url, relay, capacity=40, folder=tmp_path) as waiting:
        waiting.join(FEW)
        waiting.join(RELEASES)
        # On ZooKeeper who came to the line within the last second is served with fewer requests: here nobody is.
        time.sleep(1.2)
        few = waiting.release(RELEASES)
        waiting.join(MANY)
        waiting.join(MANY)
        time.sleep(1.2)
        many = waiting.release(RELEASES)
    assert few.requests < 15
    assert many.requests <= 1.25 * few.requests + 2
    assert many.messages <= 1.25 * few.messages + 2
    assert many.size <= 1.5 * few.size + 1000 or kind in LISTED
