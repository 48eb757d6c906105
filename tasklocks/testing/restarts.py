"""What every backend with a server promises over a restart of it: larger tokens, and no lease that two believe in."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from tasklocks import BackendUnavailable, connect
from tasklocks.testing.asking import LONG, NAME, look, taken
from tasklocks.testing.fixtures import Restartable
from tasklocks.types import Busy, Grant

T = TypeVar("T")

_PATIENCE = 30.0


def test_a_restart_of_the_server_makes_no_token_smaller_and_no_lease_double(restartable: Restartable) -> None:
    backend = connect(restartable.url)
    over = taken(backend, "before", "over")
    backend.release("over", "before")
    ours = taken(backend, "ours", ttl=LONG)
    restartable.restart()
    assert patiently(lambda: taken(backend, "next", "over")).fencing_token > over.fencing_token
    (renewed,) = patiently(lambda: backend.renew([ours]))
    theirs = patiently(lambda: look(backend, "theirs"))
    if renewed is None:  # the server lost its data: the lease is known to be lost, and its token is refused
        assert isinstance(theirs, Grant)
        assert theirs.fencing_token > ours.fencing_token
    else:
        assert isinstance(theirs, Busy)
        assert renewed.fencing_token == ours.fencing_token
        backend.release(NAME, "ours")
        assert taken(backend, "theirs").fencing_token > ours.fencing_token
    backend.close()


def patiently(ask: Callable[[], T]) -> T:
    """Ask again as long as the backend does not answer, but not for ever."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with suppress(BackendUnavailable):
            return ask()
        time.sleep(0.1)
    return ask()
