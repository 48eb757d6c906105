"""What a Redis forgets: with its memory, or in a failover before its replica heard of it. Fencing tokens tell."""

from __future__ import annotations

import threading
import time

import pytest

from tasklocks import Lock
from tasklocks.backends.redis import RedisBackend
from tests.faults.hammered import hammered
from tests.faults.using import answers
from tests.line import LONG, NAME, Line, taken
from tests.processes import eventually
from tests.storm.store import Store as FencedStore

under_sentinel = pytest.mark.parametrize("kind", ["redis"], indirect=True)
TTL = 6.0


@under_sentinel
def test_a_failover_goes_on_with_larger_tokens(trio, opened):
    backend = opened(trio.url)
    token = taken(backend, "before").fencing_token
    trio.primary.kill()
    assert eventually(lambda: answers(backend), within=30)
    assert taken(backend, "after", "another").fencing_token > token
    with Line(backend) as line:
        waiting = line.join("waiter", "another")
        backend.release("another", "after")
        assert waiting.hears()


@under_sentinel
def test_two_hold_for_at_most_a_third_of_the_ttl_when_a_failover_forgot_a_lease_and_fencing_tells(
    trio, opened, tmp_path
):
    """The measured window: from the second holder's grant until the first one is told, with both awake."""
    first_backend, second_backend = opened(trio.url), opened(trio.url)
    trio.stop_copying()
    first = Lock(NAME, ttl=TTL, backend=first_backend).acquire()
    trio.primary.kill()
    assert eventually(lambda: answers(second_backend), within=30)
    second, began = Lock(NAME, ttl=TTL, backend=second_backend).acquire(blocking=False), time.monotonic()
    assert _fenced(tmp_path, (second.fencing_token, True), (first.fencing_token, False))
    assert eventually(lambda: first.lost, within=TTL)
    window = time.monotonic() - began
    print(f"two believed in their lease for {window:.2f} s of a ttl of {TTL:.0f} s")
    assert window < TTL / 3 + 1
    assert first.release() is False
    assert second_backend.inspect(NAME).holders[0].owner == second.owner
    second.release()


def test_while_a_server_forgets_all_it_knows_again_and_again_no_fenced_write_is_lost(redis_server, tmp_path):
    def forget() -> None:
        for _ in range(3):
            redis_server.restart()
            time.sleep(0.5)

    hammered(redis_server.url, 1.0, tmp_path, forget, forgets=True)


def test_who_waits_for_a_server_that_comes_back_empty_gets_the_lease(redis_server):
    backend = RedisBackend(redis_server.url)
    taken(backend, "holder")
    got, failed = [], []

    def wait_for_it():
        try:
            with Lock(NAME, ttl=LONG, backend=backend).acquire(timeout=30) as lease:
                got.append(lease.fencing_token)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=wait_for_it)
    thread.start()
    assert eventually(lambda: backend.inspect(NAME).waiters, within=5)
    redis_server.stop()
    time.sleep(1)
    redis_server.start()
    thread.join()
    assert (len(got), failed) == (1, [])
    backend.close()


def _fenced(folder, *writes: tuple[int, bool]) -> bool:
    """Whether a store that looks at tokens takes and refuses writes as foretold."""
    store = FencedStore(folder / "store")
    try:
        return all(_wrote(store, token) is expected for token, expected in writes)
    finally:
        store.close()


def _wrote(store: FencedStore, token: int) -> bool:
    value = store.claim(NAME, token)
    return value is not None and store.write(NAME, value + 1, token)
