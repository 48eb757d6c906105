"""A body that keeps the interpreter to itself: survived for less than its ttl, told when it was longer."""

from __future__ import annotations

import ctypes
import time

import pytest

from tasklocks import LeaseLost, Lock, connect
from tests.processes import eventually

# Called through PyDLL, C code holds the interpreter's lock, as a badly written extension does.
USLEEP = ctypes.PyDLL(None).usleep


@pytest.fixture
def ttl(process_backend_url):
    backend = connect(process_backend_url)
    yield max(3.0, 2 * backend.capabilities.min_ttl)
    backend.close()


def test_a_body_that_holds_the_interpreter_for_most_of_its_ttl_keeps_its_lease(process_backend_url, ttl):
    with Lock("gil", ttl=ttl, backend=process_backend_url) as lease:
        time.sleep(ttl / 3 + 0.2)  # renewed once: it has two thirds at the least from here on
        for _ in range(2):
            USLEEP(int(ttl * 0.55 * 1e6))
            assert not lease.lost
            assert eventually(lambda: lease.expires_in() > ttl * 0.55, within=3), "renewed as soon as it can be"
            lease.check()


def test_a_body_that_holds_the_interpreter_for_longer_knows_that_it_lost_its_lease(process_backend_url, ttl, caplog):
    caplog.set_level("ERROR", logger="tasklocks")
    with Lock("gil", ttl=ttl, backend=process_backend_url) as lease:
        USLEEP(int(ttl * 1.5 * 1e6))
        assert lease.lost
        with pytest.raises(LeaseLost, match="ran out"):
            lease.check()
