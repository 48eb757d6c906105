"""What is open before an outage is what is open after it: here, and at the server."""

from __future__ import annotations

import pytest

from tests.faults.stores import with_option
from tests.faults.using import frozen, grows_not, open_at, used
from tests.relay import relayed

# The relay has two threads and two sockets for each connection that is in use; a server may look after it for a while
# when it was cut. What leaked with every cut would be more.
RELAYING = ("threads", "files", "connections", "cursors")
CUTS = 6


@pytest.mark.parametrize(
    ("outage", "times"),
    [(lambda server: server.restart(), 5), (lambda server: frozen(server, 1.5), 3)],
    ids=["restarted", "frozen"],
)
def test_outages_leave_nothing_open(kind, store, server, opened, outage, times):
    backend = opened(with_option(server.url, store.short_sessions))
    used(backend)
    with grows_not(lambda: open_at(kind, server), store.spare):
        for _ in range(times):
            outage(server)
            used(backend, misses=store.misses)


def test_cut_connections_leave_nothing_open(kind, store, server, opened):
    with relayed(server.url) as (relay, url):
        backend = opened(with_option(url, store.short_sessions))
        used(backend)
        with grows_not(lambda: open_at(kind, server), dict.fromkeys(RELAYING, CUTS - 1)):
            for _ in range(CUTS):
                relay.cut()
                used(backend, misses=True)
        backend.close()


def test_nothing_of_a_closed_backend_stays_open(kind, store, server, opened):
    with grows_not(lambda: open_at(kind, server), store.spare):
        for _ in range(5):
            backend = opened(server.url)
            used(backend)
            backend.close()
