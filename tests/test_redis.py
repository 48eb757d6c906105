"""The Redis backend alone: what a server can do to it, and what goes over the wire."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
import redis

from tasklocks import BackendUnavailable, ConfigurationError, Lock, Semaphore
from tasklocks.backends.base import GRANT_TTL, RETENTION
from tasklocks.backends.redis import RedisBackend
from tasklocks.errors import BackendRefused
from tasklocks.types import AcquireRequest, Grant
from tests.line import LONG, NAME, Line, away, free, held, look, taken
from tests.processes import eventually, free_port
from tests.redis_alone import *  # noqa: F403
from tests.servers import RedisServer

KINDS = ("EVALSHA", "EVAL")


@contextmanager
def scripts_run(client):
    """Count the scripts that the server ran meanwhile."""
    counts = []
    client.config_resetstat()
    yield counts
    calls = client.info("commandstats")
    counts.append({kind: calls.get(f"cmdstat_{kind.lower()}", {}).get("calls", 0) for kind in KINDS})


# One round trip a step.


def test_each_step_is_one_script(backend, client):
    backend.renew([taken(backend, "warm")])
    backend.release(NAME, "warm")
    backend.force_release(NAME)
    backend.inspect(NAME)
    with scripts_run(client) as counts:
        grant = taken(backend, "a")
        held(backend)
        backend.renew([grant])
        backend.inspect(NAME)
        backend.release(NAME, "a")
        backend.force_release(NAME)
    assert sum(counts[0].values()) == 6


def test_a_renewal_of_many_leases_is_sent_at_once(backend, client):
    grants = [taken(backend, f"o{number}", f"limit-{number}") for number in range(50)]
    assert all(backend.renew(grants))
    before = client.info("stats")["total_reads_processed"]
    assert all(backend.renew(grants))
    assert client.info("stats")["total_reads_processed"] - before < 5


def test_a_server_that_forgot_the_scripts_is_told_again(backend, client):
    grants = [taken(backend, "a"), taken(backend, "b", "other")]
    client.script_flush()
    assert all(backend.renew(grants))
    client.script_flush()
    assert backend.release(NAME, "a")
    client.script_flush()
    taken(backend, "c")


def test_all_keys_of_a_limit_are_in_one_slot_of_a_cluster(tmp_path):
    # Its own choice would be 10 000 above its port, which may be too high.
    bus = str(free_port())
    with RedisServer(tmp_path / "node", "--cluster-enabled", "yes", "--cluster-port", bus) as node:
        with redis.Redis.from_url(node.url) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            assert eventually(lambda: client.cluster("info")["cluster_state"] == "ok", within=10)
        backend = RedisBackend(node.url)
        for name in ("plain", "{tag}", "}{", "a{b}c"):
            grant = taken(backend, "a", name)
            with Line(backend) as line:
                waiting = line.join("b", name)
                look(backend, "c", name, place=away("task"))
                backend.renew([grant])
                assert backend.release(name, "a")
                assert waiting.hears()
            assert backend.inspect(name).holders
            assert backend.force_release(name) == 1
        backend.close()


def test_nothing_stays_in_the_server_for_ever(backend, client):
    taken(backend, "holder")
    taken(backend, "weighty", "other", permits=2, capacity=3)
    with Line(backend) as line:
        line.join("waiter")
        look(backend, "passer-by", place=away("task"))
        backend.release("other", "weighty", keep=5)
        lives = {key: client.pttl(key) / 1000 for key in client.scan_iter()}
    assert len(lives) == 8
    assert all(RETENTION <= life <= 2 * RETENTION + LONG for life in lives.values()), lives


def test_a_long_lease_is_not_forgotten_because_a_short_one_came_later(backend, client):
    taken(backend, "patient", capacity=2, ttl=10 * RETENTION)
    taken(backend, "short", capacity=2, ttl=1)
    backend.release(NAME, "short")
    assert all(client.pttl(key) / 1000 > 10 * RETENTION for key in client.scan_iter())


def test_an_idle_limit_leaves_one_small_key(backend, client):
    for number in range(200):
        taken(backend, f"o{number}", permits=2, capacity=3)
        backend.release(NAME, f"o{number}")
    assert len(client.keys()) == 1
    assert client.hlen(client.keys()[0]) < 10


# Lost data.


def _restarted(server, client):
    server.restart()


def _flushed(server, client):
    client.flushall()


@pytest.mark.parametrize("lose", [_restarted, _flushed])
def test_tokens_grow_on_after_the_server_lost_its_data(server, backend, client, lose):
    before = [taken(backend, f"o{number}", capacity=9).fencing_token for number in range(5)]
    lose(server, client)
    after = taken(backend, "later").fencing_token
    assert before == sorted(before)
    assert after > before[-1]


def test_a_lease_that_the_server_forgot_is_told_as_lost_and_does_not_end_its_successors(backend, client):
    lease = Lock(NAME, ttl=1, backend=backend).acquire()
    client.flushall()
    successor = taken(backend, "successor")
    assert eventually(lambda: lease.lost, within=3)
    assert lease.release() is False
    assert backend.inspect(NAME).holders[0].owner == "successor"
    assert successor.fencing_token > lease.fencing_token


# Connections that break.


def test_a_restarted_server_is_not_noticed(server, backend):
    taken(backend, "a", "first")
    server.restart()
    taken(backend, "b", "second")


def test_a_server_that_is_gone_is_named_without_its_password(server):
    backend = RedisBackend(f"redis://user:s3cret@127.0.0.1:{server.port}/5")
    server.stop()
    with pytest.raises(BackendUnavailable, match=rf"redis://127\.0\.0\.1:{server.port}/5 cannot be reached") as told:
        taken(backend, "a")
    assert "s3cret" not in f"{told.value!r} {told.value.__cause__!r} {backend!r}"
    backend.close()


def test_a_frozen_server_is_given_up_in_time_and_answers_late_are_not_mixed_up(server):
    backend = RedisBackend(f"{server.url}?socket_timeout=0.3")
    taken(backend, "a")
    server.pause()
    try:
        with pytest.raises(BackendUnavailable, match="does not answer"):
            backend.inspect("another")
    finally:
        server.resume()
    assert backend.inspect(NAME).holders[0].owner == "a"
    assert backend.inspect("another").holders == ()
    backend.close()


# A socket whose making was struck is closed by the collector, which says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_exception_in_the_middle_of_a_step_does_not_mix_up_answers(backend):
    """As a soft time limit or a lost lease strikes anywhere."""

    class StruckError(Exception):
        pass

    def strike(*_):
        raise StruckError

    former = signal.signal(signal.SIGALRM, strike)
    struck = 0
    try:
        for number, delay in zip(range(400), itertools.cycle([0.00005, 0.0001, 0.00015, 0.0003, 0.0006])):
            name = f"limit-{number}"
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)
                grant = backend.acquire(AcquireRequest(name, "mine", permits=1 + number % 3, capacity=5))
                signal.setitimer(signal.ITIMER_REAL, 0)
                assert isinstance(grant, Grant)
                assert grant.permits == 1 + number % 3
            except StruckError:
                struck += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert struck > 20
    assert backend.inspect(NAME).capacity == 0


def test_an_ear_whose_connection_was_cut_hears_again(backend, client):
    taken(backend, "holder")
    with Line(backend) as line:
        waiting = line.join("waiter")
        client.client_kill_filter(_type="pubsub")
        threading.Timer(0.5, lambda: backend.release(NAME, "holder")).start()
        assert waiting.hears(within=GRANT_TTL)


def test_a_waiter_whose_ear_is_cut_keeps_its_place_but_not_the_permit_from_others(backend, client):
    taken(backend, "holder")
    other = RedisBackend(_url_of(client))
    with Line(backend) as deaf, Line(other) as hearing:
        first = deaf.join("first")
        second = hearing.join("second")
        victims = [each["id"] for each in client.client_list(_type="pubsub")]
        client.client_kill_filter(_id=min(victims, key=int))
        backend.release(NAME, "holder")
        assert second.hears()
        second.leave()
        assert isinstance(first.ask(), Grant)
    other.close()


def _url_of(client) -> str:
    options = client.connection_pool.connection_kwargs
    return f"redis://{options['host']}:{options['port']}/{options['db']}"


def test_a_killed_waiter_does_not_hold_up_the_line(backend, server):
    taken(backend, "holder")
    script = f"from tasklocks import Lock; Lock({NAME!r}, backend={server.url!r}).acquire()"
    process = subprocess.Popen([sys.executable, "-c", script])
    assert eventually(lambda: backend.inspect(NAME).waiters, within=20)
    with Line(backend) as line:
        next_in_line = line.join("next")
        process.kill()
        process.wait()
        backend.release(NAME, "holder")
        assert next_in_line.hears(within=GRANT_TTL / 2)


def test_many_waiting_threads_share_one_connection_and_all_hear(backend, client):
    order, failed = [], []
    lock = Lock(NAME, ttl=LONG, backend=backend)

    def wait_for_it(number):
        try:
            with lock.acquire(timeout=30):
                order.append(number)
        except Exception as error:
            failed.append(error)

    with lock.acquire():
        threads = [threading.Thread(target=wait_for_it, args=(number,)) for number in range(20)]
        for number, thread in enumerate(threads):
            thread.start()
            assert eventually(lambda: len(backend.inspect(NAME).waiters) == number + 1, within=5)  # noqa: B023
        assert len(client.client_list(_type="pubsub")) == 1
    for thread in threads:
        thread.join()
    assert (order, failed) == (list(range(20)), [])


def test_a_waiter_that_stops_reading_hands_the_reading_on(backend):
    taken(backend, "holder")
    with Line(backend) as line:
        reader, other = line.join("reader"), line.join("other")
        heard = []
        thread = threading.Thread(target=lambda: heard.append(other.hears(within=5)))
        reading = threading.Thread(target=lambda: reader.listener.wait(0.3, reader.busy))
        reading.start()
        time.sleep(0.1)
        thread.start()
        reading.join()
        reader.leave()
        backend.release(NAME, "holder")
        thread.join()
        assert heard[0] is not None


def test_a_forked_child_uses_connections_of_its_own(backend, client):
    taken(backend, "parent")
    with Line(backend) as line:
        waiting = line.join("waiter")
        child = os.fork()
        if child == 0:
            os._exit(0 if _works_in_child(backend) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        backend.release(NAME, "parent")
        assert waiting.hears()


def _works_in_child(backend) -> bool:
    taken(backend, "child", "child")
    with Line(backend) as line:
        waiting = line.join("childs-waiter", "child")
        backend.release("child", "child")
        return waiting.hears() is not None


# Configuration.


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://localhost/first", "database must be a number, not 'first'"),
        ("redis://localhost:s3cret", "malformed"),
        ("redis://:s3cret@localhost/0?colour=red", "colour"),
        ("redis://localhost/0?socket_timeout=s3cret", "malformed"),
        ("redis+sentinel://:s3cret@localhost:26379", "names no service"),
        ("redis+sentinel://localhost:26379/service/first", "database must be a number"),
        ("redis+sentinel://localhost:s3cret/service", "malformed"),
    ],
)
def test_a_url_that_cannot_work_says_why_and_shows_no_secret(url, message):
    with pytest.raises(ConfigurationError, match=message) as told:
        RedisBackend(url)
    assert "s3cret" not in repr(told.value)


def test_a_wrong_password_is_refused_without_being_shown(tmp_path):
    with RedisServer(tmp_path / "closed", "--requirepass", "right") as server:
        right = RedisBackend(f"redis://:right@127.0.0.1:{server.port}/0")
        assert free(right)
        right.close()
        for credentials in ("", ":s3cret@", "nobody:s3cret@"):
            backend = RedisBackend(f"redis://{credentials}127.0.0.1:{server.port}/0")
            with pytest.raises(BackendRefused, match="user or the password") as told:
                taken(backend, "a")
            assert "s3cret" not in repr(told.value)
            backend.close()


def test_missing_rights_are_named(server, client):
    client.acl_setuser("weak", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@read", "+@connection"])
    backend = RedisBackend(f"redis://weak:pw@127.0.0.1:{server.port}/0")
    with pytest.raises(BackendRefused, match="rights"):
        taken(backend, "a")
    backend.close()


def test_the_documented_rights_are_enough(server, client):
    commands = ["-@all", "+@read", "+@write", "+@scripting", "+@connection", "+publish", "+subscribe", "+time"]
    client.acl_setuser(
        "locks", enabled=True, passwords=["+pw"], keys=["tasklocks:*"], channels=["tasklocks:*"], commands=commands
    )
    backend = RedisBackend(f"redis://locks:pw@127.0.0.1:{server.port}/0")
    taken(backend, "holder")
    with Line(backend) as line:
        waiting = line.join("waiter")
        backend.release(NAME, "holder")
        assert waiting.hears()
    backend.close()


@pytest.mark.parametrize(("policy", "warnings"), [("allkeys-lru", 1), ("volatile-ttl", 1), ("noeviction", 0)])
def test_a_server_that_may_throw_locks_away_is_warned_of_once(tmp_path, caplog, policy, warnings):
    with RedisServer(tmp_path / "full", "--maxmemory", "100mb", "--maxmemory-policy", policy) as server:
        for _ in range(2):
            backend = RedisBackend(server.url)
            free(backend)
            backend.close()
    assert sum(policy in record.getMessage() for record in caplog.records) == warnings


def test_prefixes_keep_apart_whatever_is_in_them(server):
    prefixes = ["a", "a:{b}", "a:", "a:{", "%7B", "{"]
    backends = [RedisBackend(server.url, prefix=prefix) for prefix in prefixes]
    for backend, name in itertools.product(backends, ("x", "b}:{x", "}:meta")):
        taken(backend, "a", name)
        backend.close()


def test_tls_is_spoken_and_the_certificate_checked(tmp_path):
    trustme = pytest.importorskip("trustme", reason="makes the test's certificates; `make venv` installs it")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    tls = ["--tls-port", "{port}", "--tls-auth-clients", "no", "--tls-ca-cert-file", str(tmp_path / "ca.pem")]
    files = ["--tls-cert-file", str(tmp_path / "server.pem"), "--tls-key-file", str(tmp_path / "server.pem")]
    with _TlsServer(tmp_path / "tls", *tls, *files) as server:
        url = f"rediss://127.0.0.1:{server.tls_port}/0"
        trusting = RedisBackend(f"{url}?ssl_ca_certs={tmp_path}/ca.pem")
        assert free(trusting)
        with Line(trusting) as line:
            taken(trusting, "holder")
            waiting = line.join("waiter")
            trusting.release(NAME, "holder")
            assert waiting.hears()
        trusting.close()
        distrusting = RedisBackend(url)
        with pytest.raises(BackendUnavailable, match="certificate"):
            taken(distrusting, "a")
        distrusting.close()


class _TlsServer(RedisServer):
    """Redis that speaks TLS on a second port."""

    def command(self):
        self.tls_port = free_port()
        return [part.format(port=self.tls_port) for part in super().command()]


def test_a_semaphore_of_many_weights_never_admits_more_than_its_capacity(backend):
    wishes = [3, 1, 4, 1, 5, 2, 6, 5, 3, 5]
    inside, most = [0], [0]
    guard = threading.Lock()

    def work(permits):
        for _ in range(10):
            with Semaphore(NAME, 6, permits=permits, ttl=LONG, backend=backend).acquire(timeout=60):
                with guard:
                    inside[0] += permits
                    most[0] = max(most[0], inside[0])
                with guard:
                    inside[0] -= permits

    threads = [threading.Thread(target=work, args=(permits,)) for permits in wishes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 < most[0] <= 6
    assert free(backend, permits=6, capacity=6)
