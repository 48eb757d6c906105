"""The etcd backend alone: what is in its keys, what goes over the wire, and whom it lets in."""

from __future__ import annotations

import shutil
import subprocess
import threading
from base64 import b64decode, b64encode
from contextlib import ExitStack, closing

import pytest
import trustme

from tasklocks import ConfigurationError, Lock, connect
from tasklocks.backends.etcd import EtcdBackend
from tasklocks.errors import BackendRefused
from tests.conftest import missing_program, require
from tests.line import LONG, NAME, Line, away, free, held, look, taken
from tests.processes import eventually
from tests.relay import Relay
from tests.servers_etcd import EtcdServer

EVERYTHING = {"key": "AA==", "range_end": "AA=="}


@pytest.fixture
def server(tmp_path):
    require(EtcdServer)
    with EtcdServer(tmp_path / "etcd") as running:
        yield running


@pytest.fixture
def backend(server):
    connected = EtcdBackend(server.url)
    yield connected
    connected.close()


@pytest.fixture
def opened():
    """Makes backends with clients of their own, and closes them."""
    with ExitStack() as stack:
        yield lambda url: stack.enter_context(closing(EtcdBackend(url)))


# One round trip a step.


def test_an_uncontended_acquire_and_its_release_are_one_round_trip_each(server):
    with Relay(server.port) as relay:
        backend = EtcdBackend(f"etcd://127.0.0.1:{relay.port}")
        for number in range(50):
            taken(backend, f"owner-{number}", f"limit-{number % 10}")
            backend.release(f"limit-{number % 10}", f"owner-{number}")
        before = relay.requests
        for number in range(200):
            taken(backend, f"late-{number}", f"limit-{number % 10}")
            backend.release(f"limit-{number % 10}", f"late-{number}")
        # The signs of life of the process's lease go the same way, some a second.
        assert 400 <= relay.requests - before <= 420
        backend.close()


def test_a_limit_that_nobody_used_before_costs_no_more(server):
    with Relay(server.port) as relay:
        backend = EtcdBackend(f"etcd://127.0.0.1:{relay.port}")
        taken(backend, "warm", "warm")
        before = relay.requests
        for number in range(100):
            taken(backend, "owner", f"fresh-{number}")
        assert 100 <= relay.requests - before <= 105
        backend.close()


def test_a_renewal_of_many_leases_is_two_round_trips(server):
    with Relay(server.port) as relay:
        backend = EtcdBackend(f"etcd://127.0.0.1:{relay.port}")
        grants = [taken(backend, "owner", f"limit-{number}") for number in range(100)]
        before = relay.requests
        assert all(backend.renew(grants))
        assert relay.requests - before <= 4
        backend.close()


def test_what_a_release_costs_does_not_grow_with_the_line(server):
    holder = EtcdBackend(server.url)
    costs = []
    with Relay(server.port) as relay, Line(holder) as line:
        backend = EtcdBackend(f"etcd://127.0.0.1:{relay.port}")
        for length in (20, 200):
            name = f"limit-{length}"
            taken(backend, "holder", name)
            for number in range(length):
                line.join(f"waiter-{number}", name)
            before = relay.requests
            backend.release(name, "holder")
            costs.append(relay.requests - before)
        backend.close()
    holder.close()
    assert max(costs) <= 5


def test_who_was_served_knows_whom_to_tell_when_it_leaves(server, opened):
    holder, last = opened(server.url), opened(server.url)
    with Relay(server.port) as relay, Line(last) as lasts:
        middle = opened(f"etcd://127.0.0.1:{relay.port}")
        with Line(middle) as middles:
            spent = 0
            for number in range(20):
                name = f"limit-{number}"
                taken(holder, "holder", name)
                second, third = middles.join("second", name), lasts.join("third", name)
                holder.release(name, "holder")
                assert second.hears()
                before = relay.requests
                middle.release(name, "second")
                spent += relay.requests - before
                assert third.hears()
    # With a look at the line first, it would be two each. A sign of life may go the same way now and then.
    assert 20 <= spent <= 30


# What is in the keys.


def test_every_key_of_a_limit_ends_by_itself(server, backend):
    with Line(backend) as line:
        for number in range(20):
            name = f"limit-{number}"
            taken(backend, "holder", name)
            look(backend, "delivery", name, place=away("task"))
            line.join("waiter", name)
            backend.release(name, "holder", keep=LONG if number % 2 else 0.0)
    kvs = server.ask("/v3/kv/range", **EVERYTHING)["kvs"]
    lasting = [b64decode(kv["key"]) for kv in kvs if "lease" not in kv]
    assert lasting == [b"tasklocks//base"]


def test_ten_thousand_turns_leave_no_more_leases_than_one(server, backend):
    taken(backend, "first")
    backend.release(NAME, "first")
    before = server.leases()
    for number in range(300):
        taken(backend, f"owner-{number}", f"limit-{number}")
        backend.release(f"limit-{number}", f"owner-{number}")
    assert len(server.leases()) <= len(before)


def test_a_closed_backend_ends_the_leases_that_nothing_depends_on(server):
    backend = EtcdBackend(server.url)
    taken(backend, "kept", "kept", ttl=30)
    taken(backend, "given back", "given back", ttl=90)
    backend.release("given back", "given back")
    before = len(server.leases())
    backend.close()
    assert len(server.leases()) == before - 1
    other = EtcdBackend(server.url)
    held(other, "kept")
    other.close()


def test_values_that_are_not_ours_are_read_as_permits_taken(server, backend):
    taken(backend, "a", "other")
    key = b64encode(b"tasklocks/limit/line/strange").decode()
    for value in (b"", b"{", b"[1]", b'["a", {}, 1]', b"\xff"):
        server.ask("/v3/kv/put", key=key, value=b64encode(value).decode())
        assert backend.inspect(NAME).waiters or backend.inspect(NAME).holders
        held(backend)
    assert backend.force_release(NAME) == 1
    assert free(backend)


def test_a_lease_that_an_administrator_ended_is_told_at_the_next_renewal(server, backend):
    lease = Lock(NAME, ttl=LONG, backend=backend).acquire()
    for each in server.leases():
        server.ask("/v3/lease/revoke", ID=each)
    assert backend.renew([lease.grant]) == [None]
    successor = taken(backend, "successor")
    assert successor.fencing_token > lease.fencing_token
    assert lease.release() is False
    assert backend.inspect(NAME).holders[0].owner == "successor"


def test_a_namespace_keeps_every_key_behind_it(server):
    backend = EtcdBackend(f"{server.url}/team-a")
    taken(backend, "a")
    assert free(EtcdBackend(server.url))
    kvs = server.ask("/v3/kv/range", **EVERYTHING)["kvs"]
    assert {b64decode(kv["key"]).partition(b"/")[0] for kv in kvs} == {b"team-a", b"tasklocks"}
    backend.close()


# Who is let in.


@pytest.fixture
def guarded(server):
    """A server with users."""
    for command in (
        ("user", "add", "root:secret-of-root"),
        ("user", "grant-role", "root", "root"),
        ("user", "add", "worker:s3cr@t/%"),
        ("role", "add", "locks"),
        ("role", "grant-permission", "locks", "--prefix=true", "readwrite", "tasklocks/"),
        ("user", "grant-role", "worker", "locks"),
        ("auth", "enable"),
    ):
        _etcdctl(server, *command)
    return server


@pytest.mark.parametrize("scheme", ["etcd", "etcd+grpc"])
def test_a_user_with_rights_to_the_prefix_only_can_do_everything(guarded, scheme):
    backend = connect(f"{scheme}://worker:s3cr%40t%2F%25@{guarded.address}")
    with Line(backend) as line:
        grant = taken(backend, "holder")
        waiting = line.join("waiter")
        assert backend.renew([grant])[0]
        assert backend.release(NAME, "holder")
        assert waiting.hears()
        assert backend.force_release(NAME) == 1
    backend.close()


@pytest.mark.parametrize("scheme", ["etcd", "etcd+grpc"])
@pytest.mark.parametrize("login", ["worker:wrong@", "nobody:s3cr%40t%2F%25@", ""])
def test_who_has_no_rights_is_refused_and_no_password_is_shown(guarded, scheme, login):
    backend = connect(f"{scheme}://{login}{guarded.address}")
    with pytest.raises(BackendRefused) as caught:
        taken(backend, "a")
    shown = f"{caught.value!s} {backend!r}"
    assert guarded.address in shown
    assert "wrong" not in shown
    assert "s3cr" not in shown
    backend.close()


def test_a_prefix_without_rights_is_refused(guarded):
    backend = EtcdBackend(f"etcd://worker:s3cr%40t%2F%25@{guarded.address}", prefix="elsewhere")
    with pytest.raises(BackendRefused, match="refuses user 'worker'"):
        taken(backend, "a")
    backend.close()


def test_a_restarted_server_that_forgot_the_login_is_logged_in_to_again(guarded):
    backend = EtcdBackend(f"etcd://worker:s3cr%40t%2F%25@{guarded.address}")
    taken(backend, "a")
    guarded.restart()
    assert eventually(lambda: backend.renew([]) == [], within=1)
    assert backend.release(NAME, "a")
    backend.close()


def test_an_encrypted_server_is_trusted_by_its_certificate_only(tmp_path):
    require(EtcdServer)
    authority, stranger = trustme.CA(), trustme.CA()
    certificate, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("worker")
    for name, blob in {
        "server.key": certificate.private_key_pem,
        "server.pem": certificate.cert_chain_pems[0],
        "client.key": client.private_key_pem,
        "client.pem": client.cert_chain_pems[0],
        "ca.pem": authority.cert_pem,
        "stranger.pem": stranger.cert_pem,
    }.items():
        blob.write_to_path(tmp_path / name)
    options = (
        *("--cert-file", f"{tmp_path}/server.pem", "--key-file", f"{tmp_path}/server.key"),
        *("--client-cert-auth", "--trusted-ca-file", f"{tmp_path}/ca.pem"),
    )
    own = f"cert={tmp_path}/client.pem&key={tmp_path}/client.key"
    with EtcdServer(tmp_path / "etcd", *options, scheme="https") as server:
        for scheme in ("etcd", "etcd+grpc"):
            backend = connect(f"{scheme}://{server.address}/?ca={tmp_path}/ca.pem&{own}")
            with Lock(NAME, backend=backend) as lease:
                lease.renew()
            backend.close()
        for wrong in (f"ca={tmp_path}/stranger.pem&{own}", f"ca={tmp_path}/ca.pem", "tls=false"):
            suspicious = EtcdBackend(f"{server.url}/?{wrong}")
            with pytest.raises(Exception, match="does not answer"):
                taken(suspicious, "a")
            suspicious.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("etcd://", "names hosts"),
        ("etcd://host:port", "number 1 of the hosts"),
        ("etcd://good:2379,user:secret", "number 2 of the hosts"),
        ("etcd://host/?colour=red", "not colour"),
        ("etcd://host/?timeout=soon", "timeout must be"),
        ("etcd://host/?tls=perhaps", "tls must be"),
        ("etcd://host/?ca=/nowhere.pem", "cannot be read"),
    ],
)
def test_a_wrong_url_is_named(url, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        EtcdBackend(url).inspect(NAME)
    assert "secret" not in str(caught.value)


# Several threads.


def test_threads_of_one_process_share_connections_and_leases(server, backend):
    def turns(thread: int) -> None:
        for number in range(20):
            taken(backend, f"{thread}-{number}", f"limit-{thread}")
            backend.release(f"limit-{thread}", f"{thread}-{number}")

    threads = [threading.Thread(target=turns, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.leases()) <= 3


def _etcdctl(server: EtcdServer, *command: str) -> None:
    program = shutil.which("etcdctl")
    if program is None:
        missing_program("etcdctl")
    subprocess.run(
        [program, f"--endpoints={server.address}", *command],
        check=True,
        capture_output=True,
        env={"ETCDCTL_API": "3"},
    )
