"""What an attacker of the Redis backend tried: races of waiters, exceptions that strike anywhere, clocks that jump."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tasklocks import BackendUnavailable, Lock, clock
from tasklocks.backends.base import GRANT_TTL
from tasklocks.backends.redis import RedisBackend
from tasklocks.types import Busy, Grant
from tests.line import LONG, NAME, Line, free, held, look, taken, until_over
from tests.processes import eventually
from tests.redis_alone import *  # noqa: F403

# Waiters.


@pytest.mark.parametrize("prefix", ["my app", "a\tb", "ä ö", "{x} %"])
def test_waiters_are_heard_of_under_every_prefix(server, prefix):
    backend = RedisBackend(server.url, prefix=prefix)
    taken(backend, "holder")
    with Line(backend) as line:
        waiting = line.join("waiter")
        backend.release(NAME, "holder")
        assert waiting.hears()
    backend.close()


def test_a_waiter_that_leaves_while_it_is_to_read_next_hands_the_reading_on(backend):
    taken(backend, "holder", "theirs")
    taken(backend, "holder")
    with Line(backend) as line:
        reader, between, last = line.join("reader"), line.join("between", "theirs"), line.join("last")
        reading = threading.Thread(target=lambda: reader.listener.wait(0.4, reader.busy))
        reading.start()
        time.sleep(0.1)
        heard = []
        thread = threading.Thread(target=lambda: heard.append(last.hears(within=2)))
        thread.start()
        time.sleep(0.1)
        reading.join()  # hands on to "between", which does not wait just now
        reader.leave()
        between.leave()
        between.listener.close()
        backend.release(NAME, "holder")
        thread.join()
        assert heard[0] is not None


def test_closing_while_somebody_waits_does_no_harm(backend, client):
    taken(backend, "holder")
    got, failed = [], []

    def wait_for_it():
        try:
            with Lock(NAME, ttl=LONG, backend=backend).acquire(timeout=20):
                got.append(True)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=wait_for_it) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: len(backend.inspect(NAME).waiters) == 3, within=5)
    for _ in range(20):
        time.sleep(0.02)
        backend.close()
    backend.release(NAME, "holder")
    for thread in threads:
        thread.join()
    assert (len(got), failed) == (3, [])


def test_a_clock_of_the_server_that_jumps_does_not_lengthen_a_pushed_lease(backend):
    taken(backend, "holder")
    with Line(backend) as line:
        waiting = line.join("waiter")
        before_the_jump = dataclasses.replace(waiting.busy, server_time=waiting.busy.server_time - 3600)
        backend.release(NAME, "holder")
        pushed = waiting.listener.wait(5, before_the_jump)
    assert isinstance(pushed, Grant)
    assert pushed.deadline <= clock.now() + GRANT_TTL


# Connections.


def test_many_idle_connections_that_were_cut_at_once_cost_nothing(backend, client):
    def all_at_once(step):
        barrier, answers = threading.Barrier(5), []

        def take_part(number):
            barrier.wait()
            answers.extend(step(f"limit-{number}-{turn}") for turn in range(20))

        threads = [threading.Thread(target=take_part, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    all_at_once(lambda name: taken(backend, "a", name))
    assert len(client.client_list(_type="normal")) > 2
    client.client_kill_filter(_type="normal", skipme=True)
    assert backend.release("limit-1-1", "a")
    client.client_kill_filter(_type="normal", skipme=True)
    assert free(backend)


@pytest.mark.parametrize(
    "query",
    [
        "protocol=3",
        "decode_responses=true",
        "retry_on_timeout=true",
        "health_check_interval=1",
        "max_connections=1",
        "socket_timeout=0.2",
        "client_name=x",
        "encoding=latin-1",
    ],
)
def test_options_of_the_url_do_not_change_what_is_understood(server, query):
    backend = RedisBackend(f"{server.url}?{query}")
    grant = taken(backend, "hölder")
    with Line(backend) as line:
        waiting = line.join("wäiter")
        threading.Timer(1.2, lambda: backend.release(NAME, "hölder")).start()
        assert backend.renew([grant])[0]
        assert waiting.hears(within=2.5)
    assert backend.inspect(NAME).holders[0].owner == "wäiter"
    backend.close()


def test_a_server_that_closes_idle_connections_is_not_noticed(backend, client):
    client.config_set("timeout", 1)
    taken(backend, "holder")
    with Line(backend) as line:
        waiting = line.join("waiter")
        assert waiting.listener.wait(2.5, waiting.busy) is None
        assert backend.release(NAME, "holder")
        assert waiting.hears(within=GRANT_TTL / 2)


# Limits.


@pytest.mark.parametrize("ttl", [1e9, 1e13, 1e300])
def test_a_lease_for_ever_is_one(backend, ttl):
    grant = taken(backend, "a", ttl=ttl)
    assert backend.inspect(NAME).holders[0].expires_in > 1e8
    assert grant.deadline > clock.now() + 1e8
    assert backend.renew([grant])[0].deadline > clock.now() + 1e8
    held(backend)
    assert backend.release(NAME, "a")
    assert free(backend)


@pytest.mark.parametrize("permits", [1, 3, 10**15])
def test_leases_whose_facts_were_thrown_away_keep_their_permits(backend, client, permits):
    grant = taken(backend, "a", permits=permits, capacity=permits + 1, ttl=1.0)
    taken(backend, "b", permits=1, capacity=permits + 1, ttl=0.5)
    client.delete(f"tasklocks:{{{NAME}}}:meta")
    for _ in range(2):
        held(backend, capacity=permits + 1)
    assert list(backend.renew([grant])) == [None]
    time.sleep(0.6)
    held(backend, capacity=permits + 1)
    time.sleep(0.6)
    for number in range(3):
        taken(backend, f"c{number}", permits=1, capacity=3)
    held(backend, capacity=3)


def test_ending_the_lease_of_a_nameless_owner_ends_no_other(backend):
    taken(backend, "a")
    assert backend.force_release(NAME, "") == 0
    assert backend.force_release(NAME) == 1


def test_a_server_whose_memory_is_full_takes_permits_back(backend, client):
    taken(backend, "a")
    taken(backend, "b", "other")
    with Line(backend) as line:
        waiting = line.join("waiter")
        client.config_set("maxmemory", "1mb")
        with pytest.raises(BackendUnavailable, match="maxmemory"):
            taken(backend, "c", "third")
        assert backend.release("other", "b")
        assert backend.release(NAME, "a")
        assert waiting.hears()
    client.config_set("maxmemory", "0")
    assert backend.inspect("third").holders == backend.inspect("other").holders == ()


def test_a_clock_of_the_server_that_was_set_back_leaves_no_negative_times(backend, client):
    taken(backend, "a")
    row = client.hget(f"tasklocks:{{{NAME}}}:meta", "lease a").split(" ")
    row[3] = str(int(row[3]) + 3600_000_000)  # granted in what is the future now
    client.hset(f"tasklocks:{{{NAME}}}:meta", "lease a", " ".join(row))
    assert backend.release(NAME, "a")
    assert backend.inspect(NAME).usual_hold == 0.0


@pytest.mark.parametrize("text", ["a b", "a\nb", "a\0b", "\0", "ä\x80", "capacity", "%d", " ", "x" * 1_000_000])
def test_any_text_can_be_an_owner_and_tell_about_itself(backend, text):
    taken(backend, text, info=text)
    with Line(backend) as line:
        waiting = line.join(f"w{text}", info=text)
        assert (backend.inspect(NAME).holders[0].owner, backend.inspect(NAME).holders[0].info) == (text, text)
        assert backend.inspect(NAME).waiters[0].info == text
        assert backend.release(NAME, text)
        assert waiting.hears()
    assert backend.inspect(NAME).holders[0].info == text


# Processes.


def test_a_child_forked_in_the_middle_of_anything_works(backend):
    over = threading.Event()

    def use(number: int) -> None:
        lock = Lock(f"busy-{number % 2}", ttl=LONG, backend=backend)
        while not over.is_set():
            with lock.acquire(timeout=20):
                pass

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    ends = [_forked(lambda: _lock_and_wait(backend)) for _ in range(25)]
    over.set()
    for thread in threads:
        thread.join()
    assert ends == [0] * 25


def _forked(act) -> int:
    """Return how a child ended that did `act`; one that hangs ends by its alarm."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)
        try:
            act()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _lock_and_wait(backend) -> None:
    for name in ("busy-0", "mine"):
        with Lock(name, ttl=LONG, backend=backend).acquire(timeout=9):
            pass


_GREENLETS = """
from gevent import monkey; monkey.patch_all()
import sys, time, gevent
from tasklocks import Lock, connect
lock = Lock("x", ttl=30, backend=sys.argv[1])
worst, got = [0.0], []

def tick():
    last = time.monotonic()
    while True:
        gevent.sleep(0.01)
        worst[0], last = max(worst[0], time.monotonic() - last), time.monotonic()

def wait(number):
    with lock.acquire(timeout=20):
        got.append(number)

ticking = gevent.spawn(tick)
first = lock.acquire()
waiters = [gevent.spawn(wait, number) for number in range(10)]
gevent.sleep(1)
waiters[0].kill()
began = time.monotonic()
first.release()
gevent.joinall(waiters)
state = connect(sys.argv[1]).inspect("x")
print(len(got), time.monotonic() - began < 5, worst[0] < 0.5, state.holders, state.waiters)
"""


def test_greenlets_wait_side_by_side_and_one_that_is_killed_leaves_the_line(server):
    pytest.importorskip("gevent")
    run = subprocess.run([sys.executable, "-c", _GREENLETS, server.url], capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "9 True True () ()", run.stderr


def test_a_release_hands_on_also_what_has_expired(backend):
    taken(backend, "a", capacity=2)
    brief = taken(backend, "b", capacity=2, ttl=0.3)
    with Line(backend) as line:
        first, second = (line.join(owner, capacity=2) for owner in ("first", "second"))
        until_over(brief)
        assert backend.release(NAME, "a")
        owners = {each.owner for each in backend.inspect(NAME).holders}
        assert owners == {first.request.owner, second.request.owner}


def test_the_release_of_an_expired_lease_beside_others_ends_nothing(backend):
    taken(backend, "a", capacity=2)
    until_over(taken(backend, "b", capacity=2, ttl=0.2))
    assert backend.release(NAME, "b") is False


def test_whom_nobody_can_tell_of_a_permit_stays_first_in_line(server, backend, client):
    taken(backend, "holder")
    other = RedisBackend(server.url)
    with Line(backend) as deaf, Line(other) as hearing:
        first = deaf.join("first")
        client.client_kill_filter(_type="pubsub")
        second = hearing.join("second")
        hearing.join("third")
        backend.release(NAME, "holder")
        assert second.hears()
        assert [each.ticket for each in backend.inspect(NAME).waiters] == ["first", "third"]
        assert first.ask().ahead == 0
    other.close()


def test_an_owner_that_comes_back_does_not_take_over_what_it_has_to_keep(backend):
    taken(backend, "a", capacity=2)
    assert backend.release(NAME, "a", keep=LONG)
    assert isinstance(look(backend, "a", capacity=2), Busy)
    taken(backend, "b", capacity=2)
    held(backend, capacity=2)


def test_the_release_of_the_only_lease_after_it_expired_ends_nothing(backend):
    until_over(taken(backend, "a", ttl=0.2))
    assert backend.release(NAME, "a") is False
    assert backend.inspect(NAME).usual_hold is None
