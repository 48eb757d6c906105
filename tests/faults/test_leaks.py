"""What is open before an outage is what is open after it: here, and at the server."""

from __future__ import annotations

import pytest

from tests.faults.stores import with_option
from tests.faults.using import frozen, grows_not, open_at, used
from tests.relay import relayed


def _restarted(server, relay) -> None:
    server.restart()


def _frozen(server, relay) -> None:
    frozen(server, 1.5)


def _cut(server, relay) -> None:
    relay.cut()


@pytest.mark.parametrize(("outage", "times"), [(_restarted, 5), (_frozen, 3), (_cut, 10)])
def test_outages_leave_nothing_open(kind, store, server, opened, outage, times):
    with relayed(with_option(server.url, store.short_sessions)) as (relay, url):
        backend = opened(url)
        used(backend)
        with grows_not(lambda: open_at(kind, server), {**store.spare, "threads": 0}):
            for _ in range(times):
                outage(server, relay)
                used(backend, misses=store.misses)
        backend.close()


def test_nothing_of_a_closed_backend_stays_open(kind, store, server, opened):
    with grows_not(lambda: open_at(kind, server), store.spare):
        for _ in range(5):
            backend = opened(server.url)
            used(backend)
            backend.close()
