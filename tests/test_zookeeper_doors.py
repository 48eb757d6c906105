"""Whom ZooKeeper lets in: a login by SASL, certificates of both sides; and what those hear who stay outside."""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from tasklocks import BackendUnavailable, ConfigurationError
from tasklocks.backends.zookeeper import ZooKeeperBackend, url
from tasklocks.errors import BackendRefused
from tests.conftest import require
from tests.line import NAME, Line, free, taken
from tests.processes import free_port
from tests.servers_zookeeper import ZooKeeperServer

_JAAS = """
Server {
    org.apache.zookeeper.server.auth.DigestLoginModule required
    user_worker="p:w/@?";
};
"""


@pytest.fixture
def guarded(tmp_path):
    """A server that talks to nobody who has not logged in."""
    require(ZooKeeperServer)
    (tmp_path / "jaas.conf").write_text(_JAAS)
    properties = [
        f"java.security.auth.login.config={tmp_path}/jaas.conf",
        "zookeeper.authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
        "zookeeper.sessionRequireClientSASLAuth=true",
    ]
    with ZooKeeperServer(tmp_path / "guarded", properties=properties) as server:
        yield server


def test_who_logs_in_by_sasl_may_lock_and_wait(guarded):
    backend = _logged_in(guarded, "worker:p%3Aw%2F%40%3F")
    taken(backend, "holder")
    with Line(backend) as line:
        waiting = line.join("waiter")
        backend.release(NAME, "holder")
        assert waiting.hears() is not None
    backend.close()


@pytest.mark.parametrize("user", ["worker:s3cret", "nobody:s3cret"])
def test_a_wrong_login_by_sasl_is_told_at_once_each_time_and_shown_to_nobody(guarded, user, caplog):
    caplog.set_level(logging.DEBUG)
    backend = _logged_in(guarded, user)
    for _ in range(3):
        with pytest.raises(BackendRefused, match="refuses the user or the password") as told:
            taken(backend, "a")
        assert "s3cret" not in f"{told.value!r} {backend!r} {caplog.text}"
    backend.close()


def test_who_does_not_log_in_is_told_that_one_has_to(guarded):
    backend = ZooKeeperBackend(guarded.url)
    with pytest.raises(BackendRefused, match="sasl_mechanism"):
        taken(backend, "a")
    backend.close()


def test_sasl_without_its_package_is_refused_before_anything_is_sent(monkeypatch):
    monkeypatch.setattr(url, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"kazoo\[sasl\]") as told:
        ZooKeeperBackend("zookeeper://ann:s3cret@host?sasl_mechanism=DIGEST-MD5")
    assert "s3cret" not in str(told.value)


# kazoo leaves the socket of a handshake that failed to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls_is_spoken_and_the_certificates_of_both_sides_are_checked(tmp_path):
    require(ZooKeeperServer)
    secure, settings = _secure(tmp_path)
    known = f"use_ssl=true&ca={tmp_path}/ca.pem"
    with ZooKeeperServer(tmp_path / "tls", settings=settings):
        backend = _over_tls(secure, f"{known}&certfile={tmp_path}/client.pem&keyfile={tmp_path}/client.pem", 20)
        assert free(backend)
        backend.close()
        for options in (known, "use_ssl=true"):
            outside = _over_tls(secure, options, 1)
            with pytest.raises(BackendUnavailable, match=r"(?i)certificate"):
                taken(outside, "a")
            outside.close()
    del outside, backend
    gc.collect()


def _logged_in(server: ZooKeeperServer, user: str) -> ZooKeeperBackend:
    return ZooKeeperBackend(f"zookeeper://{user}@127.0.0.1:{server.port}/app?sasl_mechanism=DIGEST-MD5")


def _over_tls(port: int, options: str, timeout: int) -> ZooKeeperBackend:
    return ZooKeeperBackend(f"zookeeper://127.0.0.1:{port}/app?timeout={timeout}&{options}")


def _secure(folder: Path) -> tuple[int, Sequence[str]]:
    """Return a port for TLS, and the settings of a server that listens there, with certificates in `folder`."""
    trustme = pytest.importorskip("trustme", reason="makes the test's certificates; `make venv` installs it")
    authority, port = trustme.CA(), free_port()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for who, name in (("server", "127.0.0.1"), ("client", "worker@example.com")):
        (folder / f"{who}.pem").write_bytes(_as_java_reads_it(authority.issue_cert(name)))
    return port, [
        f"secureClientPort={port}",
        "secureClientPortAddress=127.0.0.1",
        "serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory",
        f"ssl.keyStore.location={folder}/server.pem",
        "ssl.keyStore.type=PEM",
        f"ssl.trustStore.location={folder}/ca.pem",
        "ssl.trustStore.type=PEM",
    ]


def _as_java_reads_it(certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization as pem

    key = pem.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    plain = key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
    return plain + b"".join(each.bytes() for each in certificate.cert_chain_pems)
